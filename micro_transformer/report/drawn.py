"""A figure of the report, drawn."""

from dataclasses import dataclass


@dataclass
class Drawn:
    """A figure with the words beside it. `on_page`: the page has no livelier form of it."""

    name: str
    caption: str
    svg: bytes
    png: bytes
    on_page: bool = True
