"""In how many leading columns the rows of a cache are known to be equal, as in beam search."""

TRACKED = 16  # rows at most; with more nothing is known


class EqualRows:
    """Rows of a batch with the number of leading columns in which each two of them are equal, since
    they have one parent."""

    def __init__(self, batch: int):
        self._columns = [[0] * batch for _ in range(batch if batch <= TRACKED else 0)]

    def reorder(self, rows: list[int], length: int) -> int:
        """New row i is old row rows[i], of `length` columns. Returns the first column that differs
        between a row and the one that takes its place; 0 where that is not known."""
        known = self._columns
        if not known or len(rows) > TRACKED:
            self._columns = []
            return 0
        self._columns = [[length if a == b else known[a][b] for b in rows] for a in rows]
        if len(rows) != len(known):
            return 0
        return min((known[i][row] for i, row in enumerate(rows) if i != row), default=length)

    @property
    def common(self) -> int:
        """Leading columns in which all rows are equal; 0 for one row."""
        return min(self._columns[0][1:]) if len(self._columns) > 1 else 0
