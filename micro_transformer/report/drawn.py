"""A figure of the report, rendered."""

from dataclasses import dataclass


@dataclass
class Drawn:
    """A figure with its caption.

    png: None for a figure that is SVG only. on_page: False if the page has an interactive form.
    """

    name: str
    caption: str
    svg: bytes
    png: bytes | None = None
    on_page: bool = True

    @property
    def files(self) -> dict[str, bytes]:
        """Maps file name -> content."""
        kinds = {"svg": self.svg, "png": self.png}
        return {f"{self.name}.{kind}": data for kind, data in kinds.items() if data is not None}

    @property
    def preferred(self) -> str:
        """The file that a Markdown text shows."""
        return list(self.files)[-1]
