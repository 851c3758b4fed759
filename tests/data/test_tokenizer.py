"""Round trips, fixed specials, JSON: laws over every kind of tokenizer."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_transformer.data import tokenizer
from micro_transformer.data.tokenizer import FIRST, PAD, SPECIALS, UNK, CharTokenizer

KINDS = ["char", "byte", "bpe_1k"]
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\ufffd"))


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXT)
def test_decoding_undoes_encoding(kind, text):
    tokens = tokenizer.train(kind, [text])
    assert tokens.decode(tokens.encode(text).tolist()) == text


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXT)
def test_no_real_token_is_special(kind, text):
    """With a vocabulary of sorted(set(text)) newline had id 0 = PAD and vanished from the loss."""
    ids = tokenizer.train(kind, [text]).encode(text)
    assert PAD == 0 and (ids >= FIRST).all()


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXT)
def test_bytes_of_parts_add_up_to_those_of_the_text(kind, text):
    """Also where a part begins or ends within a character."""
    tokens = tokenizer.train(kind, [text])
    ids = tokens.encode(text)
    assert tokens.num_bytes(ids) == sum(map(tokens.num_bytes, ids[:, None])) == len(text.encode())
    assert tokens.num_bytes(np.arange(FIRST)) == 0


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXT)
def test_json_keeps_a_tokenizer(kind, text):
    tokens = tokenizer.train(kind, [text])
    again = tokenizer.load(json.loads(json.dumps(tokens.to_dict())))
    assert again == tokens and again.vocab_size == tokens.vocab_size
    assert np.array_equal(again.encode(text), tokens.encode(text))


@pytest.mark.parametrize("kind", KINDS)
def test_specials_leave_no_text(kind):
    tokens = tokenizer.train(kind, ["ab"])
    ids = [PAD, *tokens.encode("a").tolist(), 1, 2, 4, *tokens.encode("b").tolist(), PAD]
    assert tokens.decode(ids) == "ab"
    assert len(SPECIALS) == FIRST


def test_a_character_outside_the_alphabet_is_unknown():
    tokens = CharTokenizer.train(["abc"])
    assert tokens.encode("aéz").tolist() == [FIRST, UNK, UNK]
    assert tokens.decode([FIRST, UNK]) == "a\ufffd"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="tokenizer.kind=morse"):
        tokenizer.load({"kind": "morse"})


def test_bpe_reads_no_special_in_the_text():
    """The library would read `<pad>` as padding once it knows the word."""
    tokens = tokenizer.train("bpe_1k", ["<pad> <bos> a b"])
    ids = tokens.encode("<pad> x <bos>")
    assert (ids >= FIRST).all() and tokens.decode(ids.tolist()) == "<pad> x <bos>"


def test_bpe_learns_frequent_pairs_and_keeps_its_size():
    tokens = tokenizer.train("bpe_1k", [str(n) * 3 for n in range(3000)])
    assert tokens.vocab_size == 1024
    assert len(tokens.encode("123123123")) < len("123123123")


def test_bpe_is_the_same_every_time():
    texts = [str(n**3) for n in range(2000)]
    assert tokenizer.train("bpe_1k", texts) == tokenizer.train("bpe_1k", texts)
