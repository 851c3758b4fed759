"""What the names of metrics mean."""

import pytest

from micro_transformer.records.metrics import measure


@pytest.mark.parametrize(
    "key, title, lower_is_better",
    [
        ("val/loss", "Validation loss (nats)", True),
        ("ppl/4k-8k", "PPL, 4k-8k", True),
        ("context/loss@8192", "Loss with 8192 tokens of context (nats)", True),
        ("recall/accuracy@4096", "Recall at 4096 tokens", False),
        ("recall/trained_length", "Recall at the trained length", False),
        ("needle/accuracy@64", "Needle at 64 tokens", False),
        ("val/bleu", "BLEU, validation", False),
        ("val/repetition", "Repeated 4-grams, validation", True),
        ("experts/dead", "Dead experts", True),
        ("experts/cv", "Load CV", True),
        ("experts/cv/encoder.0", "Load CV, layer encoder.0", True),
        ("experts/entropy/3", "Router entropy / ln E, layer 3", True),
        ("experts/flops_per_token_counted", "FLOPs/token, counted", True),
        ("new/perplexity", "new/perplexity", True),
        ("new/accuracy", "new/accuracy", False),
    ],
)
def test_a_key_says_what_it_is_and_which_way_is_better(key, title, lower_is_better):
    found = measure(key)
    assert (found.key, found.title) == (key, title)
    assert found.lower_is_better == lower_is_better
