"""Weights of a pre-trained net in a net with another head."""

import pytest
import torch

from micro_transformer.nn.pretrained import HEAD, take_weights
from tests.conftest import tiny_decoder, tiny_encoder


def snapshot(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def test_the_body_is_the_bases_and_the_head_its_own():
    base = tiny_encoder("learned", pooling="none")
    net = tiny_encoder("learned", pooling="cls", num_outputs=2)
    before = snapshot(net)
    take_weights(net, base, (HEAD,))
    for key, value in net.state_dict().items():
        source = before if key.startswith("head.") else base.state_dict()
        assert torch.equal(value, source[key]), key


def test_a_whole_net_may_be_taken():
    base, net = tiny_decoder(), tiny_decoder()
    take_weights(net, base)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), base.parameters(), strict=True))


def test_taken_weights_are_copies():
    base, net = tiny_encoder(), tiny_encoder()
    take_weights(net, base)
    with torch.no_grad():
        net.embedding.weight.zero_()
    assert base.embedding.weight.any()


def test_a_tied_base_gives_its_embedding():
    base = tiny_encoder(tied_embeddings=True)
    net = tiny_encoder(pooling="mean", tied_embeddings=True, num_outputs=2)
    take_weights(net, base, (HEAD,))
    assert torch.equal(net.embedding.weight, base.embedding.weight)


MISFITS = {
    "another width": (tiny_encoder, {"d_model": 16}, "embedding.weight is"),
    "another vocabulary": (tiny_encoder, {"vocab_size": 30, "num_outputs": 20}, "(30, 32) there"),
    "fewer layers": (tiny_encoder, {"num_layers": 1}, "is absent there"),
    "biases": (tiny_encoder, {"bias": True}, "absent in this net"),
    "another head": (tiny_encoder, {"num_outputs": 3}, "head.weight is (3, 32) there"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_one_line_and_changes_nothing(case):
    make, knobs, said = MISFITS[case]
    net = tiny_encoder()
    before = snapshot(net)
    with pytest.raises(ValueError) as caught:
        take_weights(net, make(**knobs))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("base: ")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
