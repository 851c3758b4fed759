"""Text that the model generates."""

import json
from collections.abc import Iterator, Sequence

from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import excerpts
from micro_transformer.generation import generate
from micro_transformer.records.run_record import SAMPLE_MARK, SAMPLES
from micro_transformer.seeds import stream
from micro_transformer.stats import text_diversity
from micro_transformer.store.checkpoints import write_file


class Samples(Measure):
    """Continuations of validation texts under the chosen decoding, in samples.txt."""

    needs = ("tokens",)
    excerpt = "prompt_len"
    excerpt_of = "val"

    def __init__(self, *, num: Count, length: Count, prompt_len: Count):
        self.num, self.length, self.prompt_len = num, length, prompt_len

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields samples/distinct_2, repetition and self_bleu (0 to 1, of each text against the
        others); the same seed writes the same text."""
        ids = self._prompts(subject)
        written = generate(
            subject.model,
            ids,
            subject.strategy,
            self.length,
            make_layer=subject.make_cache,
            seed=stream(subject.seed, "samples"),
        )
        decode = subject.task.tokenizer.decode
        prompts, whole = ([decode(row) for row in rows.tolist()] for rows in (ids, written))
        texts = [decode(row[self.prompt_len :]) for row in written.tolist()]
        write_file(subject.folder / SAMPLES, _page(prompts, whole).encode())
        yield "samples/distinct_2", text_diversity.distinct(texts, 2)
        yield "samples/repetition", text_diversity.repetition(texts)
        yield "samples/self_bleu", text_diversity.self_bleu(texts)

    def _prompts(self, subject: EvalContext) -> Tensor:
        """(num, prompt_len) ids from positions spread evenly over the validation text."""
        tokens = subject.task.tokens("val")
        return excerpts(tokens, self.prompt_len, self.num, "prompt_len").to(subject.device)


def printable(text: str) -> str:
    """The text without control characters except line breaks and tabs."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _page(prompts: Sequence[str], whole: Sequence[str]) -> str:
    parts = [
        f"{SAMPLE_MARK} {i}, prompt {json.dumps(printable(prompt), ensure_ascii=False)}\n"
        f"{printable(text)}\n"
        for i, (prompt, text) in enumerate(zip(prompts, whole, strict=True), 1)
    ]
    return "\n".join(parts)
