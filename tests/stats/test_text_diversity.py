"""Self-BLEU is each text against all others; repeated n-grams are those of one text."""

import random

import pytest
from sacrebleu.metrics.bleu import BLEU

from micro_transformer.stats.text_diversity import distinct, repetition, self_bleu

WORDS = ["a", "b", "c", "d", "e", "f", "."]


def drawn(seed, num=12):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(num)]


@pytest.mark.parametrize("seed", range(5))
def test_self_bleu_is_that_of_sacrebleu_against_all_others(seed):
    texts = drawn(seed)
    texts += texts[:2]  # repeated ones have BLEU 100
    bleu = BLEU(effective_order=True, smooth_method="exp")
    each = [
        bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)
    ]
    assert self_bleu(texts) == pytest.approx(sum(each) / len(each) / 100)


def test_equal_texts_have_self_bleu_one_and_foreign_ones_little():
    assert self_bleu(["one two three four five"] * 3) == pytest.approx(1)
    assert self_bleu(["one two"] * 2) == pytest.approx(1)  # too short for 4-grams
    assert self_bleu(["a b c d e f", "g h i j k l"]) < 0.1


def test_one_text_has_no_others():
    assert self_bleu([]) is None and self_bleu(["a b"]) is None


def test_an_empty_text_is_like_none():
    assert self_bleu(["", "a b c d"]) == 0


def test_repetition_counts_within_a_text():
    assert repetition(["a b c d e"]) == 0
    assert repetition(["a b c d", "a b c d"]) == 0
    assert repetition(["a a a a a a"]) == pytest.approx(2 / 3)
    assert repetition(["a a a a a a", "a b c d e"]) == pytest.approx(2 / 5)
    assert repetition(["a b c", ""]) is None


def test_distinct_counts_different_runs_of_words():
    assert distinct(["a b a b a"], 2) == 2 / 4
    assert distinct(["a b", "a b"], 2) == 1 / 2  # over all texts together
    assert distinct(["a b c d"], 2) == 1
    assert distinct(["a b", "c"], 1) == 1
    assert distinct(["word", ""], 2) is None
