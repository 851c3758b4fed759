"""The READMEs show what the records say."""

import re

import pytest

from micro_transformer.report import readme


@pytest.mark.parametrize("name", readme.DOCUMENTS)
def test_nothing_shown_is_stale(name):
    text = (readme.ROOT / name).read_text(encoding="utf-8")
    assert readme.BLOCK.search(text), "the marks are gone"
    assert readme.refreshed(text, readme.ROOT / "results") == text, "run `make readme`"
    shown = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert all((readme.ROOT / "docs" / path).is_file() for path in shown), "run `make readme`"


def test_a_figure_that_no_record_gives_is_named():
    text = "<!-- figures:demo no_such -->\n<!-- /figures -->"
    with pytest.raises(ValueError, match="results/demo has no figure no_such; has ppl_by_epoch"):
        list(readme.pictures(text, readme.ROOT / "results"))


def test_a_changed_table_is_made_anew():
    text = "a\n<!-- results:demo -->\nold\n<!-- /results -->\nb"
    made = readme.refreshed(text, readme.ROOT / "results")
    assert "old" not in made and "PPL mean ± std" in made
    assert made.startswith("a\n<!-- results:demo -->\n") and made.endswith("<!-- /results -->\nb")


@pytest.mark.parametrize("sweep", sorted(path.name for path in (readme.ROOT / "results").iterdir()))
def test_no_committed_record_names_a_folder_of_a_machine(sweep):
    for path in (readme.ROOT / "results" / sweep).rglob("record.json"):
        assert not re.search(r'"([\w.]+=)?(/|[A-Z]:)', path.read_text(encoding="utf-8")), path
