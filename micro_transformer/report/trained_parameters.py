"""What each configuration trains of its net: parameters, their share, quality and cost."""

from micro_transformer.records.cells import Cell, Table, cost_cell, metric_cell
from micro_transformer.records.metrics import MS_PER_BATCH, TRAIN_RSS, Measure, measure
from micro_transformer.records.rows import Board, Row
from micro_transformer.records.tables import shown_quality
from micro_transformer.wording import _

# The score that adapters are compared by where it was measured, else the quality of the task.
PREFERRED = ("test/f1_macro", "val/f1_macro")
ACCURACY = "/accuracy"


def counts(board: Board) -> list[tuple[Row, int]]:
    """Rows with their trained parameters, fewest first; [] where every row trains its whole net."""
    found = [(row, row.ok[0].size.get("trainable")) for row in board.rows if row.ok]
    known = [(row, trained) for row, trained in found if trained]
    if all(trained == row.ok[0].size.get("params") for row, trained in known):
        return []
    return sorted(known, key=lambda each: each[1])


def compared_by(board: Board) -> Measure | None:
    """The score shown against trained parameters."""
    there = {key for record in board.records for key in record.metrics}
    return next((measure(key) for key in PREFERRED if key in there), shown_quality(board))


def chance(board: Board, quality: Measure) -> float | None:
    """What always predicting the majority class would score; None unless the score is an accuracy
    with that baseline in the records."""
    if not quality.key.endswith(ACCURACY):
        return None
    key = quality.key.removesuffix(ACCURACY) + "/majority"
    values = {record.metrics[key] for record in board.records if key in record.metrics}
    return values.pop() if len(values) == 1 else None


def trained_parameters(board: Board) -> Table:
    """Config | trained parameters | share | scores | ms/batch | peak memory in training | n."""
    known, quality = counts(board), compared_by(board)
    accuracy = measure("test" + ACCURACY)
    there = {key for record in board.records for key in record.metrics}
    others = [accuracy if accuracy.key in there else None, shown_quality(board)]
    scores = [m for m in dict.fromkeys((quality, *others)) if m]
    setting = board.settings[0] if len(board.settings) == 1 else None
    costs = [MS_PER_BATCH, TRAIN_RSS] if setting else []
    table = Table(
        _("Trained parameters: {title}", title=board.title),
        [_("Config"), _("Trained parameters"), _("Share of the net (%)"),
         *(m.title for m in [*scores, *costs]), "n"],
    )  # fmt: skip
    baselines = [(m, share) for m in scores if (share := chance(board, m)) is not None]
    table.note = " ".join(
        _("{name} of the majority class: {share:.3f}.", name=m.label, share=share)
        for m, share in baselines
    )
    for row, trained in known:
        share = 100 * trained / row.ok[0].size["params"]
        table.rows.append([
            Cell(row.name, row.name), Cell(f"{trained:,}", trained), Cell(f"{share:.3g}", share),
            *(metric_cell(row, m.key) for m in scores),
            *(cost_cell(row, m.key, setting or "") for m in costs),
            Cell(str(len(row.ok)), len(row.ok)),
        ])  # fmt: skip
    return table
