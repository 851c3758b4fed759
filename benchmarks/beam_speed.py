"""What beam search and translation cost at model=8m on a CPU, with transformers as a peer, in turn.

    python benchmarks/beam_speed.py [--parts beam translation] [--rounds 5] [--new 2048]

beam: a language model, prompt of 32 tokens, batch 1, no EOS: beam 4 over greedy, on a contiguous
and a paged cache (blocks of 256), and the same ratio of a GPT-2 of equal width and depth in
transformers. translation: greedy, 64 sources of 8 to 24 tokens; time of transformers' Marian of
equal width, depth and vocabulary over ours, with 32 tokens per row, and with rows that end after
4 to 60 tokens, the same in both. Weights are random. Run it alone on the machine.
"""

import argparse
import json
import random
import statistics
import time

import torch

from micro_transformer.build import measuring, training
from micro_transformer.config.resolve import resolve
from micro_transformer.data.tokenizer import BOS, EOS, FIRST, PAD
from micro_transformer.decoding.beam import Beam
from micro_transformer.decoding.greedy import Greedy
from micro_transformer.generation import generate
from micro_transformer.runs.planning import make_plan

PROMPT, BEAMS, SOURCES, FORCED = 32, 4, 64, 32
BYTES, WORDS = 256, 4096
MOST_BEAM, MOST_PAGED, LEAST_TRANSLATION = 2.0, 1.3, 1.5


def config(*words):
    (job,) = make_plan(["model=8m", "device=cpu", "train.precision=fp32", *words]).jobs
    return resolve(job.config)


def net(vocab, *words):
    class Ids:
        vocab_size = num_outputs = vocab

    torch.manual_seed(0)
    return training.build_model(config(*words), Ids()).eval()


def in_turn(calls, rounds):
    """name -> seconds per round, in random order, after one round that does not count."""
    found, draw = {name: [] for name in calls}, random.Random(0)
    for _ in range(rounds + 1):
        for name in draw.sample(list(calls), len(calls)):
            started = time.perf_counter()
            calls[name]()
            found[name].append(time.perf_counter() - started)
    return {name: each[1:] for name, each in found.items()}


def ratio(times, slower, faster):
    """Median, least and greatest over rounds."""
    each = [a / b for a, b in zip(times[slower], times[faster], strict=True)]
    return [round(x, 2) for x in (statistics.median(each), min(each), max(each))]


def beam(rounds, new):
    from transformers import GPT2Config, GPT2LMHeadModel

    model, prompt = net(BYTES), torch.randint(FIRST, BYTES, (1, PROMPT))
    dims = model.dims
    sizes = {"n_embd": dims.d_model, "n_layer": dims.num_layers, "n_head": dims.num_heads}
    peer = GPT2LMHeadModel(GPT2Config(vocab_size=BYTES, n_positions=PROMPT + new, **sizes)).eval()

    def ours(strategy, cache):
        maker = measuring.cache_maker(config(f"cache={cache}"))
        return lambda: generate(model, prompt, strategy, new, make_layer=maker)

    def theirs(**how):
        settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        settings |= {"pad_token_id": PAD, "attention_mask": torch.ones_like(prompt), **how}
        return lambda: peer.generate(prompt, **settings)

    with torch.inference_mode():
        times = in_turn(
            {
                "greedy": ours(Greedy(), "contiguous"),
                "beam": ours(Beam(num_beams=BEAMS), "contiguous"),
                "beam, paged": ours(Beam(num_beams=BEAMS), "paged"),
                "transformers greedy": theirs(),
                "transformers beam": theirs(num_beams=BEAMS),
            },
            rounds,
        )
    print(json.dumps({name: round(statistics.median(each), 2) for name, each in times.items()}))
    own, paged = ratio(times, "beam", "greedy"), ratio(times, "beam, paged", "beam")
    print(f"beam {BEAMS} takes {own} times as long as greedy, must {MOST_BEAM}; in transformers "
          f"{ratio(times, 'transformers beam', 'transformers greedy')}")  # fmt: skip
    print(f"beam on paged takes {paged} times as long as on contiguous, must {MOST_PAGED}")


def translation(rounds):
    model = net(WORDS, "arch=encoder_decoder", "task=tatoeba", "eval=none", "bench=none")
    peer = marian(model.dims)
    draw = random.Random(0)
    lengths = [draw.randint(8, 24) for _ in range(SOURCES)]
    source = torch.full((SOURCES, max(lengths)), PAD)
    for row, length in zip(source, lengths, strict=True):
        row[:length] = torch.randint(FIRST, WORDS, (length,))
    ends = torch.tensor([draw.randint(4, 60) for _ in range(SOURCES)])
    count = {"ours": sum(p.numel() for p in model.parameters())}
    count["Marian"] = sum(p.numel() for p in peer.parameters())
    print(json.dumps({"parameters": count}))
    maker = measuring.cache_maker(config("cache=contiguous"))
    prompt = torch.full((SOURCES, 1), BOS)

    def ours(new, ends=None):
        options = {"make_layer": maker, "source": source}
        if ends is None:
            return lambda: generate(model, prompt, Greedy(), new, **options)
        watch = lambda step: Ending(step, ends)  # noqa: E731
        return lambda: generate(model, prompt, Greedy(), new, eos=EOS, watch=watch, **options)

    def theirs(new, ends=None):
        settings = {"max_new_tokens": new, "do_sample": False, "num_beams": 1}
        settings |= {"attention_mask": (source != PAD).long()}
        if ends is None:
            settings["min_new_tokens"] = new
        else:
            settings["logits_processor"] = [lambda ids, logits: ended(logits, ends == ids.shape[1])]
        return lambda: peer.generate(source, **settings)

    longest = int(ends.max())
    with torch.inference_mode():
        times = in_turn(
            {
                "ours, 32 tokens": ours(FORCED),
                "Marian, 32 tokens": theirs(FORCED),
                "ours, to the end": ours(longest, ends),
                "Marian, to the end": theirs(longest, ends),
            },
            rounds,
        )
    print(json.dumps({name: round(statistics.median(each), 2) for name, each in times.items()}))
    for kind in ("32 tokens", "to the end"):
        found = ratio(times, f"Marian, {kind}", f"ours, {kind}")
        print(f"translation, {kind}: Marian takes {found} times as long, must {LEAST_TRANSLATION}")


def marian(dims):
    from transformers import MarianConfig, MarianMTModel

    width, layers, heads = dims.d_model, dims.num_layers, dims.num_heads
    sizes = {"encoder_layers": layers, "decoder_layers": layers}
    sizes |= {"encoder_attention_heads": heads, "decoder_attention_heads": heads}
    sizes |= {"encoder_ffn_dim": 4 * width, "decoder_ffn_dim": 4 * width}
    ids = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": BOS}
    ids |= {"forced_eos_token_id": None}
    whole = MarianConfig(
        vocab_size=WORDS,
        d_model=width,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        **sizes,
        **ids,
    )
    return MarianMTModel(whole).eval()


class Ending:
    """A step whose rows write EOS as token number `ends`, and nothing else before."""

    def __init__(self, step, ends):
        self.step, self.ends, self.written = step, ends, 0

    def __call__(self, ids, parents=None):
        if parents is not None:
            self.ends = self.ends[parents]
        self.written += 1
        output = self.step(ids, parents)
        return output._replace(logits=ended(output.logits, self.ends == self.written))


def ended(logits, is_over):
    """Logits (B, V) with EOS where a row is over, and without it elsewhere."""
    logits = logits.clone()
    logits[:, EOS] = torch.where(is_over, torch.inf, -torch.inf).clamp(max=1e4)
    return logits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=["beam", "translation"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if "beam" in asked.parts:
        beam(asked.rounds, asked.new)
    if "translation" in asked.parts:
        translation(asked.rounds)


if __name__ == "__main__":
    main()
