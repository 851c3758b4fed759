"""HTML and SVG by construction: whatever is not Markup is escaped, wherever it is put."""

import html

from micro_transformer.wording import printable


class Markup(str):
    """Text that is markup already; only `tag` and `joined` make it from data."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """<name attributes>children</name>. Names come from code; `class_` is class, `data_x` data-x;
    an attribute that is None or False is left out, True stands alone."""
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{html.escape(_clean(str(value)))}"')
    return Markup(f"<{' '.join(parts)}>{joined(*children)}</{name}>")


def joined(*children: object) -> Markup:
    """The children one after the other, each escaped unless it is Markup."""
    return Markup(
        "".join(c if type(c) is Markup else html.escape(_clean(str(c))) for c in children)
    )


def _clean(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
