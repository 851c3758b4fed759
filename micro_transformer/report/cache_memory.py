"""Claims on cache memory: bytes are counted, not sampled, so that no test is needed."""

from micro_transformer.records.metrics import places
from micro_transformer.records.rows import Board, Row
from micro_transformer.report.claims import Claim
from micro_transformer.wording import _

MOST = 12


def held_claims(board: Board) -> list[Claim]:
    """Bytes of each row at the longest context, smallest first; error of the predictions."""
    keys = {key for record in board.records for key in record.cost}
    held, predicted = places(keys, "cache/bytes"), places(keys, "cache/predicted_bytes")
    if not held:
        return []
    far = max(held)
    sizes = [(size, row) for row in board.rows if (size := row.summary(held[far]).mean)]
    sizes.sort(key=lambda pair: pair[0])
    named = "; ".join(f"{row.name} {size / 1e6:.3g} MB" for size, row in sizes[:MOST])
    more = f"; {len(sizes) - MOST} more" if len(sizes) > MOST else ""
    found = (
        [
            Claim(
                _(
                    "Cache at {far} tokens, bytes allocated: {named}{more}.",
                    far=far,
                    named=named,
                    more=more,
                )
            )
        ]
        if sizes
        else []
    )
    errors = [
        (abs(guess / size - 1), row, at)
        for at in held.keys() & predicted.keys()
        for row in board.rows
        if (size := row.summary(held[at]).mean)
        and (guess := row.summary(predicted[at]).mean) is not None
    ]
    if errors:
        found.append(_worst(*max(errors, key=lambda item: item[0])))
    return found


def _worst(error: float, row: Row, at: int) -> Claim:
    if not error:
        return Claim(_("Predicted cache bytes equal the measured ones at every context length."))
    off = f"{100 * error:.2g} % ({row.name} at {at})"
    return Claim(
        _("Predicted cache bytes differ from the measured ones by at most {off}.", off=off)
    )
