"""Text for people: translation, plurals, and text safe to print.

Every sentence shown to a person (errors, logs, `--help`, tables, reports, figures) passes `_` or
`plural`, as a constant with {fields}, so that `make messages` can collect it; text that is read
from a file (the first comment of a yaml) passes `translated`. The language is that of the
environment (LANGUAGE, LC_ALL, LC_MESSAGES, LANG); without a catalogue of it in `locale/`, text
stays English. Keys, values, flags and statuses are not translated.
"""

import gettext
import unicodedata
from pathlib import Path
from typing import Any

CATALOGUES = Path(__file__).with_name("locale")
_catalogue = gettext.translation("micro_transformer", CATALOGUES, fallback=True)


def use(catalogue: gettext.NullTranslations) -> None:
    """Later text is translated by this catalogue."""
    global _catalogue
    _catalogue = catalogue


def _(text: str, /, **fields: Any) -> str:
    """The text in the user's language, with its {fields} filled in, if any are given."""
    translated = _catalogue.gettext(text)
    return translated.format(**fields) if fields else translated


def translated(text: str) -> str:
    """A text that was read from a file, such as a comment of `conf/`, in the user's language."""
    return _catalogue.gettext(text) if text else ""


def N_(text: str) -> str:
    """The text as it is, marked for `xgettext -kN_`; `translate` it where it is shown."""
    return text


def translate(text: str, **fields: Any) -> str:
    """A text that was marked with `N_`, in the user's language, its {fields} filled in."""
    return _(text, **fields)


def plural(n: int, one: str, many: str, /, **fields: Any) -> str:
    """`one` or `many` as n asks for, in the user's language; {n} is written as `1,234`."""
    return _catalogue.ngettext(one, many, n).format(n=f"{n:,}", **fields)


def printable(text: str) -> str:
    """The text on one line, without control characters or invisible format characters."""
    if text.isprintable():
        return text
    return "".join(" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or _is_shown(c))


def clean(text: Any, longest: int = 100) -> str:
    """The text with non-printable characters as `?`, truncated to `longest` characters."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
