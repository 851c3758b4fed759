"""BLEU and chrF++ are those of sacreBLEU, on lists that fit each other; case counts."""

import numpy as np
import pytest
from sacrebleu import corpus_bleu, corpus_chrf
from sacrebleu.metrics.bleu import BLEU

from micro_transformer.stats import translation_metrics as metrics

REFERENCES = [["El perro come.", "Come el perro."], ["¿Dónde está Ana?"], ["No lo sé.", "No sé."]]
WRITTEN = ["El perro come.", "¿Dónde está ana ahora?", "No lo sabía."]
STREAMS = [["El perro come.", "¿Dónde está Ana?", "No lo sé."], ["Come el perro.", None, "No sé."]]


def test_scores_are_those_of_sacrebleu():
    bleu, signature = metrics.score("bleu", WRITTEN, REFERENCES)
    assert bleu == corpus_bleu(WRITTEN, STREAMS).score and 0 < bleu < 100
    assert signature == "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    chrf, signature = metrics.score("chrf", WRITTEN, REFERENCES)
    assert chrf == corpus_chrf(WRITTEN, STREAMS, word_order=2).score
    assert chrf != corpus_chrf(WRITTEN, STREAMS).score  # chrF without words
    assert "nw:2" in signature and "case:mixed" in signature


def test_the_corpus_is_scored_not_the_mean_of_its_sentences():
    each = [metrics.score("bleu", [w], [r])[0] for w, r in zip(WRITTEN, REFERENCES, strict=True)]
    assert metrics.score("bleu", WRITTEN, REFERENCES)[0] != pytest.approx(np.mean(each), abs=1)


def test_one_count_of_references_is_named_in_the_signature():
    assert "nrefs:1|" in metrics.score("bleu", WRITTEN, [of[:1] for of in REFERENCES])[1]


def test_case_counts():
    texts = ["El Perro come mucho hoy."]
    assert metrics.score("bleu", texts, [texts])[0] == pytest.approx(100)
    assert metrics.score("bleu", [texts[0].lower()], [texts])[0] < 80


def test_any_reference_will_do():
    assert metrics.score("bleu", ["Come el perro."], REFERENCES[:1])[0] == pytest.approx(100)
    assert metrics.exact(["Come el  perro. ", "no sé.", "x"], [*REFERENCES[:1], ["No sé."], ["x"]])
    assert metrics.exact(["Come  el perro. ", "no sé."], [REFERENCES[0], REFERENCES[2]]) == 0.5


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
@pytest.mark.parametrize(
    "texts, references, said",
    [
        (WRITTEN, REFERENCES[:2], "3 translations but references for 2 sentences"),
        (WRITTEN[:1], REFERENCES, "1 translations but references for 3 sentences"),
        (WRITTEN, [*REFERENCES[:2], []], "sentence 3 has no reference"),
        ([], [], "no translation to score"),
        ("El", REFERENCES[:2], "a text in place of a list"),
        (WRITTEN, ["El perro", "Ana", "No"], "a text in place of a list"),
    ],
)
def test_lists_that_do_not_fit_are_refused_in_one_line(metric, texts, references, said):
    """sacreBLEU scores the common beginning: 100 points for one right sentence of three."""
    for function in (metrics.score, metrics.statistics):
        with pytest.raises(ValueError, match=said) as caught:
            function(metric, texts, references)
        assert "\n" not in str(caught.value)


def test_sacrebleu_itself_says_nothing():
    """Why lists are checked; when this fails, the check may go."""
    assert corpus_bleu(WRITTEN, [["El perro come."]]).score == pytest.approx(100)


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_summed_counts_give_the_corpus_score(metric):
    counts = metrics.statistics(metric, WRITTEN, REFERENCES)
    assert len(counts) == 3
    assert metrics.points(metric, counts.sum(0)) == metrics.score(metric, WRITTEN, REFERENCES)[0]


def test_the_ratio_of_lengths_is_that_of_the_penalty():
    found = BLEU().corpus_score(WRITTEN, STREAMS)
    assert metrics.length_ratio(WRITTEN, REFERENCES) == found.sys_len / found.ref_len
    assert metrics.length_ratio(["", ""], REFERENCES[:2]) == 0
    assert metrics.length_ratio(["word"], [[" "]]) is None


def test_an_empty_translation_scores_nothing():
    for metric in ("bleu", "chrf"):
        assert metrics.score(metric, ["", "", ""], REFERENCES)[0] == 0
