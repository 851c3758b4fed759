"""Sentences with and without labels: one tokenizer, and no evaluation sentence in either."""

import pytest

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora import reviews, sst2
from micro_transformer.data.corpora.mlm import MaskedText
from micro_transformer.data.corpora.review_sources import origins
from micro_transformer.data.corpora.reviews import Pool
from micro_transformer.data.corpora.sst2 import SST2
from micro_transformer.data.corpora.tatoeba import Tatoeba
from micro_transformer.data.prepared_dataset import DataMissing
from micro_transformer.data.text import Report, same

GOOD, BAD = "a fine and moving film", "a dull , lifeless film"


def pool(num=400):
    """Distinct sentences of both classes, and phrases of them."""
    sentences = [(f"{(BAD, GOOD)[i % 2]} of number {i}", i % 2) for i in range(num)]
    return Pool(sentences, [], [("of number", 0), ("fine", 1), ("moving film of", 1)])


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe_1k"])
def test_labelled_and_unlabelled_sentences_have_one_tokenizer(tmp_path, tokenizer):
    own, base = (
        prepare(corpus(tokenizer=tokenizer), tmp_path, tier="grammar")
        for corpus in (SST2, MaskedText)
    )
    assert own.tokenizer_digest == base.tokenizer_digest
    assert own.manifest["tokenizer_sha256"] == base.manifest["tokenizer_sha256"]
    assert own.manifest["tokenized_as"] == base.manifest["tokenized_as"] == "mlm"
    assert own.digest != base.digest


def texts(rows):
    return {same(text) for text in rows.all_text()}


def test_no_evaluation_sentence_is_read_without_its_label():
    """Nor a text that contains one; training sentences are."""
    found = reviews.parts(pool(), [], Report())
    evaluated = [*found.val, *found.test]
    english = [(f"I said: {evaluated[0][0]}!", ""), (evaluated[1][0], ""), ("Tom doesn't.", "")]
    report = Report()
    again = reviews.parts(pool(), english, report)
    assert again.val == found.val and again.test == found.test
    assert again.english == ["tom does n't ."]
    assert report.counts["contains an evaluation text, dropped"] == 2
    splits = reviews.unlabelled(again, Report())
    known = set().union(*map(texts, splits.values()))
    assert not known & {same(text) for text, _ in evaluated}
    assert known == {same(text) for text, _ in again.train} | {same("tom does n't .")}


def test_both_sizes_have_the_same_evaluation_sentences():
    read = reviews.parts(pool(), [], Report())
    small, every = (SST2(size=s).rows(read, Report()) for s in ("2k", "all"))
    assert all(texts(small[split]) == texts(every[split]) for split in ("val", "test"))
    assert texts(every["train"]) > texts(small["train"])


def test_english_is_written_as_in_sst2():
    text = "“Don't worry,” he said... It's Tom’s dog; isn't it?"
    expected = "“ do n't worry , ” he said ... it 's tom 's dog ; is n't it ?"
    assert reviews.as_tokens(text) == expected
    assert reviews.as_tokens(expected) == expected


def test_empty_texts_and_repetitions_are_counted():
    report = Report()
    kept = reviews._unique([("A film", 1), ("a film!", 1), ("--", 0), ("", 0)], report)
    assert kept == [("a film", 1)]
    assert dict(report.counts) == {"no letter or digit, dropped": 2, "repeated text, dropped": 1}


def test_a_split_of_one_class_is_one_line():
    good = Pool([(f"{GOOD} number {i}", 1) for i in range(60)], [], [])
    splits = SST2().rows(reviews.parts(good, [], Report()), Report())
    with pytest.raises(DataMissing, match="split train of task=sst2 has rows of one class only"):
        SST2().facts(splits, None)


def test_sentences_over_the_limit_are_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(SST2, "max_tokens", 300)
    data = prepare(SST2(tokenizer="byte"), tmp_path, tier="grammar")
    dropped = [key for key in data.manifest["cleaning"] if key.startswith("over 300 tokens")]
    assert dropped
    assert max(len(data.row("val", i)) for i in range(data.splits["val"]["rows"])) <= 300


def test_origins_join_sources_of_one_tier():
    """The best has both, the last is our grammar; every source is known to Tatoeba or SST-2."""
    found = origins()
    assert [o.tier for o in found][:1] == ["MT_DATA"] and found[-1].tier == "grammar"
    for origin in found:
        assert len({source.tier.split(":")[0] for source in origin.sources}) == 1
    tiers = {o.tier.split(":")[0] for o in Tatoeba().origins()}
    assert {o.tier.split(":")[0] for o in found} == tiers


def test_two_thousand_sentences_are_what_the_small_size_has():
    splits = SST2().rows(reviews.parts(pool(3000), [], Report()), Report())
    assert len(splits["train"]) == sst2.SMALL == 2000
