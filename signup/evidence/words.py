"""The words of the paper, a table for each language; and how times and what people typed look in them."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from babel.dates import format_datetime, get_timezone

from signup.core.values import LOCALES

FOLDER = Path(__file__).parents[2] / "templates" / "evidence"
# Courts ask for the second and the zone; a date alone has been too thin.
TO_THE_SECOND = {"de": ("de_DE", "d. MMMM y, HH:mm:ss z"), "en": ("en_GB", "d MMMM y, HH:mm:ss z")}
REGIONS = {"de": "DE", "en": "GB"}
# What the three fonts that come with the typesetter can show. PDF/A has no place for a letter without a shape.
SHOWN = (
    (0x20, 0x7E),
    (0xA0, 0xAC),
    (0xAE, 0x377),
    (0x384, 0x38A),
    (0x38E, 0x3A1),
    (0x3A3, 0x4FF),
    (0x5D0, 0x5EA),
    (0x621, 0x63A),
    (0x640, 0x652),
    (0x660, 0x66D),
    (0x1E00, 0x1EFF),
    (0x2010, 0x2027),
    (0x202F, 0x2040),
    (0x20A0, 0x20BF),
    (0x2190, 0x21FF),
)
LATIN = ((0x20, 0x7E), (0xA0, 0xAC), (0xAE, 0x24F), (0x2010, 0x2027), (0x20AC, 0x20AC))
# A word that long gets places to break, or it would run out of the page.
LONG_WORD = 24
BREAK = "\u200b"


@dataclass(frozen=True)
class Words:
    """One language of the paper.

    Args:
        timezone: the controller's, in which times are told.
        alphabet: ranges of the letters that can be set; others are spelled as their number.
    """

    locale: str
    timezone: str
    alphabet: tuple[tuple[int, int], ...] = SHOWN

    def __call__(self, key: str, **values: Any) -> str:
        """The words under this key, with what belongs into them made safe to set."""
        shown = {name: value if isinstance(value, int) else self.typed(value) for name, value in values.items()}
        return _table(self.locale)[key].format(**shown)

    def has(self, key: str) -> bool:
        return key in _table(self.locale)

    def moment(self, moment: datetime) -> str:
        """To the second, with the zone."""
        dialect, pattern = TO_THE_SECOND[self.locale]
        return str(format_datetime(moment, pattern, tzinfo=get_timezone(self.timezone), locale=dialect))

    def with_utc(self, moment: datetime) -> str:
        return f"{self.moment(moment)} · {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def typed(self, value: Any, limit: int = 2000) -> str:
        """What somebody typed, on one line, fit to be set: no letter without a shape, none that acts unseen."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        short = text[:limit] + ("…" if len(text) > limit else "")
        return " ".join(map(_breakable, self._spelled(" ".join(short.split())).split(" ")))

    def lines(self, text: str, limit: int) -> str:
        """The same for a text of several lines."""
        return "\n".join(self.typed(line, limit) for line in text[:limit].splitlines())

    def _spelled(self, text: str) -> str:
        """Controls, marks of direction and letters outside the fonts by their number, so that nothing hides."""
        composed = unicodedata.normalize("NFC", text)
        return "".join(char if self._has_shape(ord(char)) else f"‹U+{ord(char):04X}›" for char in composed)

    def _has_shape(self, point: int) -> bool:
        return any(first <= point <= last for first, last in self.alphabet)


@lru_cache(maxsize=len(LOCALES))
def _table(locale: str) -> dict[str, str]:
    words: dict[str, str] = json.loads((FOLDER / f"words.{locale}.json").read_text(encoding="utf-8"))
    return words


def _breakable(word: str) -> str:
    return BREAK.join(word) if len(word) > LONG_WORD else word
