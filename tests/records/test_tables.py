"""Tables show what there is, and say what there is not."""

from micro_transformer.records.cells import Cell, Table
from micro_transformer.records.rows import collect
from micro_transformer.records.tables import as_markdown, as_text, filled, runs_csv
from micro_transformer.report.summary_table import brief
from tests.made_records import make_sweep


def test_a_column_without_a_figure_is_left_out_and_named():
    table = Table("t", ["Config", "Speed", "Far", "Why", "n"], note="Here.")
    for name in "ab":
        cells = [Cell("n/a"), Cell("n/a: no text that long"), Cell("—"), Cell("3", 3)]
        table.rows.append([Cell(name, name), *cells])
    shown = filled(table)
    assert shown.columns == ["Config", "n"] and [len(row) for row in shown.rows] == [2, 2]
    assert shown.note == "Here. n/a in every row: Speed, Far (no text that long)."
    assert "Speed  " not in as_text(table) and "| Far" not in as_markdown(table)
    table.rows[1][1] = Cell("7", 7)
    assert filled(table).columns == ["Config", "Speed", "n"]
    assert filled(Table("empty", ["Config", "n"])).columns == ["Config", "n"]


def test_a_sweep_without_benches_has_no_columns_of_costs():
    records = make_sweep({"posenc": ["rope", "alibi"]})
    for record in records:
        record.cost = {}
    (board,) = collect(records)
    assert filled(brief(board)).columns == ["Config", "PPL mean ± std", "n", "Seeds"]
    assert "n/a in every row: Tokens/s, Peak memory" in as_text(brief(board))
    assert "mem/peak_vram_gb" in runs_csv(collect(make_sweep({"posenc": ["rope"]})))  # all stay
