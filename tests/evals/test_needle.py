"""A password in running text: a net that can copy finds it, and the share says so."""

import pytest
import torch
from torch import nn

from micro_transformer.data.tokenizer import CharTokenizer
from micro_transformer.evals.needle import Needle
from tests.evals.subjects import tiny_subject, with_model


class Copier(nn.Module):
    """Foretells that what followed the last occurrence of the last `span` tokens follows again."""

    def __init__(self, vocab_size, span=10):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.vocab_size, self.span = vocab_size, span

    def hidden(self, ids):
        found = torch.zeros(*ids.shape)
        for row, line in zip(found, ids.tolist(), strict=True):
            for end in range(self.span, len(line) + 1):
                tail = line[end - self.span : end]
                for start in range(end - self.span - 1, -1, -1):
                    if line[start : start + self.span] == tail:
                        row[end - 1] = line[start + self.span]
                        break
        return found

    def logits(self, hidden):
        return nn.functional.one_hot(hidden.long(), self.vocab_size).float()


def test_a_copier_finds_the_needle_and_an_untrained_net_does_not(tmp_path):
    measure = Needle(sentence=" the password is ", letters=4, texts=5, shortest=30, doublings=1)
    subject = tiny_subject(tmp_path)
    assert all(v == 0 for k, v in measure.run(subject) if k.startswith("needle/accuracy"))
    found = dict(measure.run(with_model(subject, Copier(subject.task.vocab_size))))
    assert found["needle/accuracy@30"] == found["needle/accuracy@60"] == 1
    assert found["needle/n@60"] == 5 and found["needle/high@30"] == 1
    letters = len({c for c in subject.task.tokenizer.alphabet if "a" <= c <= "z"})
    assert found["needle/chance"] == pytest.approx(letters**-4)


def test_a_text_shorter_than_the_distance_has_no_needle(tmp_path):
    measure = Needle(sentence="x", letters=1, texts=2, shortest=3000, doublings=0)
    found = dict(measure.run(tiny_subject(tmp_path)))
    assert found["needle/accuracy@3000"] is None and found["needle/n@3000"] == 0


def test_a_text_without_latin_letters_has_no_needle_and_no_chance(tmp_path):
    subject = tiny_subject(tmp_path)
    subject.task.data.tokenizer = CharTokenizer("".join(map(chr, range(0x3B1, 0x3CA))))
    measure = Needle(sentence="αβγ", letters=1, texts=2, shortest=30, doublings=0)
    found = dict(measure.run(subject))
    assert found["needle/chance"] is None and found["needle/n@30"] == 0
