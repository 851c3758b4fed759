"""What each configuration trains, as a table and a figure."""

from micro_transformer.records.rows import collect
from micro_transformer.report import figures, trained_parameters
from micro_transformer.report.study import study
from tests.made_records import make_record

SIZES = {"none": 1_000_000, "lora": 20_000, "head_only": 258}


def board(sizes=SIZES, **metrics):
    """Adapters of three seeds each, by their trained parameters."""
    records = [
        make_record(
            seed,
            id=f"{name}{seed}",
            overrides=[f"adapter={name}"],
            meant={"adapter": name},
            size={"params": 1_000_000, "trainable": trained},
            metrics={"val/accuracy": 0.6 + i / 10 + seed / 1e4, **metrics},
        )
        for i, (name, trained) in enumerate(sizes.items())
        for seed in (42, 43, 44)
    ]
    (found,) = collect(records)
    return found


def test_the_table_has_the_fewest_parameters_first_and_the_chance_level():
    found = board(**{"test/f1_macro": 0.5, "test/accuracy": 0.6, "test/majority": 0.51})
    table = trained_parameters.trained_parameters(found)
    assert [row[0].text for row in table.rows] == [f"adapter={n}" for n in reversed(SIZES)]
    assert [row[1].value for row in table.rows] == [258, 20_000, 1_000_000]
    assert [row[2].text for row in table.rows] == ["0.0258", "2", "100"]
    assert table.note == "Accuracy of the majority class: 0.510."
    assert table.columns[3:5] == ["Macro F1", "Accuracy"]
    assert any(t.title == table.title for t in study(found).tables)


def drawn(found):
    plots = {p.name: p for p in figures.plots_of(study(found)) if p}
    axes = plots["trained-parameters"].figure.axes[0]
    return axes, axes.get_legend_handles_labels()[1]


def test_the_figure_has_a_point_per_adapter():
    axes, names = drawn(board(**{"test/f1_macro": 0.5, "test/majority": 0.51}))
    assert len(names) == 3  # the majority class has an accuracy of 0.51, not an F1
    assert axes.get_ylabel().startswith("Macro F1") and axes.get_xscale() == "log"


def test_accuracies_are_drawn_with_their_chance_level():
    _, names = drawn(board(**{"val/majority": 0.51}))
    assert len(names) == 4 and any("majority" in name and "0.510" in name for name in names)


def test_nets_that_are_trained_whole_have_neither():
    found = board(dict.fromkeys(SIZES, 1_000_000))
    assert not trained_parameters.counts(found)
    assert not any(p and p.name == "trained-parameters" for p in figures.plots_of(study(found)))
