"""Labels of points: short, and placed where they cover neither a point nor each other."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from micro_transformer.plots.style import label
from micro_transformer.records.rows import ABSENT, Row

LONGEST, MOST_NAMES = 30, 40
RINGS = (9.0, 20.0, 34.0, 50.0, 68.0)  # from the point to the nearest corner of its name
ANGLES = (45, -45, 135, -135, 90, -90, 20, -20, 160, -160, 0, 180)  # beside error bars first
MARK = 6.0  # half of what a point takes
Place = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle by its middle and its size."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share any area."""
        near_x = 2 * abs(self.x - other.x) < self.width + other.width
        return near_x and 2 * abs(self.y - other.y) < self.height + other.height


def short_names(rows: Sequence[Row]) -> list[str]:
    """What tells the rows apart: `alibi paged`; with its factor where a level alone says little."""
    factors = [f for f in rows[0].levels if len({row.levels[f] for row in rows}) > 1]
    owners = Counter(level for f in factors for level in {row.levels[f] for row in rows})

    def short(factor: str, level: str) -> str:
        says_it = level.isidentifier() and level not in ("true", "false", "null", "none")
        says_it = says_it and owners[level] == 1
        return level if says_it else f"{factor.rsplit('.', 1)[-1]}={level}"

    names = [
        " ".join(short(f, row.levels[f]) for f in factors if row.levels[f] != ABSENT)
        for row in rows
    ]
    whole = [row.name for row in rows]
    return [label(n, LONGEST) for n in (names if len(set(names)) == len(set(whole)) else whole)]


def place_names(
    points: Sequence[Place], names: Sequence[str], letter: Place, frame: Box
) -> list[Box | None]:
    """The box of each name, inside the frame; the first names are the first served, and one that
    finds no room has none. `letter`: width and height of a letter, in the units of the points."""
    taken = [Box(x, y, 2 * MARK, 2 * MARK) for x, y in points]
    found: list[Box | None] = []
    for (x, y), name in zip(points, names, strict=True):
        size = (letter[0] * len(name), letter[1])
        there = (_beside(x, y, size, ring, angle) for ring in RINGS for angle in ANGLES)
        free = (box for box in there if _inside(box, frame) and not any(map(box.meets, taken)))
        box = next(free, None) if len(found) < MOST_NAMES else None
        found.append(box)
        taken += [box] if box else []
    return found


def _beside(x: float, y: float, size: Place, ring: float, angle: float) -> Box:
    """A box whose corner, or the middle of an edge, is so far from the point, in a direction."""
    dx, dy = round(math.cos(math.radians(angle)), 6), round(math.sin(math.radians(angle)), 6)
    side = math.copysign(size[0] / 2, dx) if dx else 0.0
    up = math.copysign(size[1] / 2, dy) if dy else 0.0
    return Box(x + dx * ring + side, y + dy * ring + up, *size)


def _inside(box: Box, frame: Box) -> bool:
    in_x = 2 * abs(box.x - frame.x) + box.width <= frame.width
    return in_x and 2 * abs(box.y - frame.y) + box.height <= frame.height
