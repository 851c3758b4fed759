"""The READMEs show what the records say."""

import pytest

from micro_transformer.report import readme


@pytest.mark.parametrize("name", readme.READMES)
def test_no_table_is_stale(name):
    text = (readme.ROOT / name).read_text(encoding="utf-8")
    assert readme.BLOCK.search(text), "the marks are gone"
    assert readme.refreshed(text, readme.ROOT / "results") == text, "run `make readme`"


def test_a_changed_table_is_made_anew():
    text = "a\n<!-- results:demo -->\nold\n<!-- /results -->\nb"
    made = readme.refreshed(text, readme.ROOT / "results")
    assert "old" not in made and "PPL mean ± std" in made
    assert made.startswith("a\n<!-- results:demo -->\n") and made.endswith("<!-- /results -->\nb")
