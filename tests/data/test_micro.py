"""The grammar's law: its probabilities are those of its texts, and its entropy is computed, not
estimated.
"""

import itertools
import math
import re

import numpy as np
import pytest

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.micro import Micro
from micro_transformer.data.micro import grammar
from micro_transformer.data.micro.grammar import LANGUAGES, SCRIPTS

SAMPLE = [grammar.draw(7, i) for i in range(3000)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sampled_story_has_one_derivation_and_it_is_its_own(language):
    for story in SAMPLE[:200]:
        assert grammar.derivations(story.text(language), language) == [story]


@pytest.mark.parametrize("which", range(2))
def test_no_two_derivations_share_a_text(which):
    """A proof by exhaustion. A story falls apart into sentences in one way, since each ends with
    its only mark. Two
    scripts of one length differ in a place where their sentences share no text; within a script
    each variable is
    read off some sentence."""
    readings = {s: grammar._readings(s, which) for script in SCRIPTS for s in script}
    for texts in readings.values():
        assert all(re.fullmatch(r"[^.?]+[.?]", text) for text in texts)
    apart = {
        (x, y): not readings[x].keys() & readings[y].keys() for x in readings for y in readings
    }
    for a, b in itertools.combinations(SCRIPTS, 2):
        assert len(a) != len(b) or any(apart[pair] for pair in zip(a, b, strict=True))
    told = {sentence: _told(texts) for sentence, texts in readings.items()}
    for script in SCRIPTS:
        assert set().union(*(told[s] for s in script)) == set(grammar.variables(script))


def _told(readings):
    """The variables that the text of a sentence gives away, whatever the others are."""
    names = next(iter(readings.values()))[0].keys()
    return {
        n for n in names if all(len({id(p[n]) for p in plans}) == 1 for plans in readings.values())
    }


def test_samples_agree_with_the_computed_entropy():
    surprisal = [-grammar.log_prob(story.text("en"), "en") for story in SAMPLE[:1000]]
    _within(surprisal, grammar.entropy())


@pytest.mark.parametrize("language", LANGUAGES)
def test_samples_agree_with_the_computed_length(language):
    _within([len(story.text(language)) for story in SAMPLE], grammar.mean_length(language))


def _within(values, expected):
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error


@pytest.fixture
def small(monkeypatch):
    """Three scripts of unequal size and two values a variable: few enough to enumerate."""
    caches = (grammar._surprisal, grammar._readings, grammar._mean_length)
    monkeypatch.setattr(grammar, "VARIABLES", {n: v[:2] for n, v in grammar.VARIABLES.items()})
    monkeypatch.setattr(grammar, "SCRIPTS", (SCRIPTS[0], SCRIPTS[1], SCRIPTS[-1]))
    for cached in caches:
        cached.cache_clear()
    yield [
        grammar.Story(script, plan)
        for script in grammar.SCRIPTS
        for plan in grammar._plans(grammar.variables(script))
    ]
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_small_grammar_enumerated_in_full(small, language):
    """All texts differ, their probabilities sum to one, and mean surprisal and length are as
    computed.
    """
    probability = np.array([math.exp(-story.surprisal) for story in small])
    texts = [story.text(language) for story in small]
    assert len(set(texts)) == len(texts)
    assert probability.sum() == pytest.approx(1)
    assert -(probability * np.log(probability)).sum() == pytest.approx(grammar.entropy())
    lengths = np.array([len(text) for text in texts])
    assert (probability * lengths).sum() == pytest.approx(grammar.mean_length(language))
    assert grammar.log_prob(texts[7], language) == pytest.approx(math.log(probability[7]))


def test_every_choice_is_drawn_as_often_as_its_probability_says():
    for name, values in grammar.VARIABLES.items():
        drawn = [story.plan[name] for story in SAMPLE if name in story.plan]
        for value in values:
            share = drawn.count(value) / len(drawn)
            assert abs(share - 1 / len(values)) < 4.5 * math.sqrt(1 / len(values) / len(drawn))
    scripts = [story.script for story in SAMPLE]
    for script in SCRIPTS:
        share = scripts.count(script) / len(scripts)
        assert abs(share - 1 / len(SCRIPTS)) < 4.5 * math.sqrt(1 / len(SCRIPTS) / len(scripts))


def test_a_friend_is_someone_else_and_a_new_spot_another_one():
    for story in SAMPLE:
        assert story.plan["friend"] != story.plan["hero"]
        assert story.plan.get("last_spot") != story.plan["spot"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_grammar_cannot_write_has_no_probability(language):
    text = SAMPLE[0].text(language)
    for broken in (text[:-1], text.replace(" ", "  ", 1), text + " Fin.", "", text.upper()):
        assert grammar.log_prob(broken, language) == -math.inf


def test_languages_are_aligned_sentence_by_sentence():
    for story in SAMPLE[:100]:
        english, spanish = story.sentences("en"), story.sentences("es")
        assert len(english) == len(spanish)
        assert [e[-1] for e in english] == [s[-1] for s in spanish]


def test_spanish_agrees_in_gender_and_number():
    texts = " ".join(story.text("es") for story in SAMPLE)
    for wrong in ("una mapa", "la mapa", "un llave", "unos botas", "unas guantes", "llave rojo"):
        assert wrong not in texts
    for right in (
        "un mapa",
        "una llave",
        "unas botas",
        "unos guantes",
        "llave roja",
        "botas rojas",
    ):
        assert right in texts
    assert re.search(r"Ana se sintió (contenta|alegre|triste|sola|cansada)", texts)
    assert not re.search(r"Ana se sintió (contento|solo|cansado)\b", texts)


def test_the_answer_was_told_before():
    for story in SAMPLE[:300]:
        *told, _, answer = story.sentences("en")
        key = answer.rstrip(".").replace("It was ", "").replace("They were ", "").lower()
        assert any(key in sentence.lower() for sentence in told)


def test_sentiment_is_stated_and_balanced():
    good = np.mean([story.sentiment for story in SAMPLE])
    assert abs(good - 0.5) < 4 * 0.5 / math.sqrt(len(SAMPLE))


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_the_floor_is_the_validation_split_under_the_grammar(tmp_path, tokenizer):
    """An oracle of its own: the sum over stories, divided by what `score` divides by."""
    data = prepare(Micro(language="es", stories=300, tokenizer=tokenizer), tmp_path)
    rows = range(data.splits["val"]["rows"])
    texts = [data.tokenizer.decode(data.row("val", i).tolist()) for i in rows]
    nats = sum(s.surprisal for text in texts for s in grammar.derivations(text, "es"))
    facts = data.manifest["facts"]
    assert facts["val_floor_loss"] == pytest.approx(nats / (len(data.tokens("val")) - 1))
    num_bytes = len("".join(texts).encode()) - 1
    assert facts["val_floor_bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes)
    assert texts[0][0] == "\n"  # the token that is not scored is certain


def test_a_story_depends_on_its_number_alone():
    assert [grammar.draw(7, i) for i in (5, 2)] == [SAMPLE[5], SAMPLE[2]]
