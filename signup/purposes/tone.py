"""German that says du: a second catalogue laid over the first, for the forms that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from babel.support import NullTranslations, Translations
from flask import g, has_app_context
from flask_babel import Babel, Domain, get_locale

# Its catalogue holds only the texts that address the reader; the rest is the same in both tones.
INFORMAL = "informal"


class TonedDomain(Domain):  # type: ignore[misc] # the base has no types
    """Finds texts in the tone of the page that is being made."""

    def get_translations(self) -> NullTranslations:
        usual: Translations = super().get_translations()
        if not has_app_context() or not g.get("informal"):
            return usual
        locale = str(get_locale())
        laid_over: Translations | None = self.cache.get((locale, INFORMAL))
        if laid_over is None:
            own = Translations.load(self.translation_directories[0], [locale], INFORMAL)
            laid_over = Translations()
            laid_over.merge(usual).merge(own)
            # `merge` copies the texts and forgets how the language counts.
            laid_over.plural = usual.plural
            self.cache[locale, INFORMAL] = laid_over
        return laid_over


class TonedBabel(Babel):  # type: ignore[misc] # the base has no types
    """Flask-Babel, whose texts come in two tones."""

    _toned: TonedDomain | None = None

    @property
    def domain_instance(self) -> TonedDomain:
        if self._toned is None:
            self._toned = TonedDomain(domain="messages")
        return self._toned


@contextmanager
def spoken(*, informal: bool) -> Iterator[None]:
    """Texts inside are in this tone."""
    before = g.get("informal")
    g.informal = informal
    try:
        yield
    finally:
        g.informal = before
