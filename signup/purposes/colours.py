"""A controller's colour, made readable: AA on both papers of the pages, in light and in dark."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

# The papers and cards of public.css. Text of the accent stands on them, and theirs on the accent.
LIGHT_PAPERS = ("#faf9f6", "#ffffff")
DARK_PAPERS = ("#14181b", "#1c2226")
# WCAG 2.2, 1.4.3: text of normal size.
AA = 4.5
INK_ON_BRIGHT = "#0c1114"
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_STEPS = 200
# How far the colour of a pressed button is from that of a resting one.
_STRONGER = 0.08


@dataclass(frozen=True)
class Palette:
    """The three colours of a button on one kind of paper."""

    accent: str
    strong: str
    on: str


@dataclass(frozen=True)
class Theme:
    light: Palette
    dark: Palette


def is_colour(text: str) -> bool:
    """Whether `text` is a colour as we store it."""
    return bool(_COLOUR.fullmatch(text))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours.

    Rule: WCAG 2.2, definition of contrast ratio.
    """
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@lru_cache(maxsize=256)
def theme(accent: str) -> Theme:
    """The accent as it is where it can be read, else as much darker or brighter as it takes."""
    light = _moved(accent, -1, lambda colour: _readable(colour, LIGHT_PAPERS, "#ffffff"))
    dark = _moved(accent, 1, lambda colour: _readable(colour, DARK_PAPERS, INK_ON_BRIGHT))
    return Theme(
        Palette(light, _lighter(light, -_STRONGER), "#ffffff"),
        Palette(dark, _lighter(dark, _STRONGER), INK_ON_BRIGHT),
    )


def _readable(colour: str, papers: tuple[str, ...], on: str) -> bool:
    return all(contrast(colour, other) >= AA for other in (*papers, on))


def _moved(colour: str, direction: int, good: Callable[[str], bool]) -> str:
    """The nearest colour of the same hue that is good; black or white at the end of the way always is."""
    for step in range(_STEPS + 1):
        moved = _lighter(colour, direction * step / _STEPS)
        if good(moved):
            return moved
    return moved


def _lighter(colour: str, by: float) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*_parts(colour))
    parts = colorsys.hls_to_rgb(hue, min(1.0, max(0.0, lightness + by)), saturation) if by else _parts(colour)
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _parts(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def stylesheet(accent: str) -> str:
    """The accent as a style sheet that follows public.css and replaces its own."""
    found = theme(accent)
    return (
        f":root {{ {_properties(found.light)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_properties(found.dark)} }} }}\n"
    )


def _properties(palette: Palette) -> str:
    return f"--accent: {palette.accent}; --accent-strong: {palette.strong}; --on-accent: {palette.on}"
