"""Where the time goes: torch's profiler over a training and a decoding, and parts compared."""

import os
from collections.abc import Iterator, Sequence

import torch
from torch.profiler import record_function

from micro_transformer.bench import scenarios
from micro_transformer.bench.decoding_speed import DecodingSpeed, write_tokens
from micro_transformer.bench.scenarios import Row
from micro_transformer.bench.training_step import TrainingStep, stepper
from micro_transformer.config.knobs import Count, Several
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.records.cells import Cell, Table
from micro_transformer.records.tables import as_markdown
from micro_transformer.store.checkpoints import write_file

ROWS = 20  # of the table of operations
PROMPT = 32  # tokens
TRACE, PAGE = "trace.json", "profile.md"
Figures = dict[str, float | None]


class Profile(Measure):
    """trace.json, for Perfetto or chrome://tracing, and profile.md with tables."""

    excerpt = "context"
    excerpt_of = "train"

    def __init__(
        self,
        *,
        batch_size: Count,
        context: Count,
        train_steps: Count,
        decode_tokens: Count,
        new_tokens: Several,
        lengths: list[Count],
        repeats: Count,
    ):
        self.batch_size, self.context, self.train_steps = batch_size, context, train_steps
        self.decode_tokens, self.new_tokens = decode_tokens, new_tokens
        self.lengths, self.repeats = lengths, repeats

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields what the benches of speed yield, and profile/<part>/ms@<tokens> with spreads."""
        speed = self._speed(subject)
        net = subject.new_model()
        rows = list(scenarios.compare(net, self.lengths, subject.device, self.repeats))
        backend = scenarios.sdpa_backend(net, max(self.lengths, default=1), subject.device)
        quality = subject.task.score(subject.model, "val")
        page = [
            as_markdown(_summary(subject, quality, speed)),
            as_markdown(_against(rows, backend, self.repeats)),
            *self._operations(subject),
        ]
        write_file(subject.folder / PAGE, "\n\n".join(page).encode())
        yield from speed.items()
        for name, tokens, median, spread in rows:
            yield f"profile/{name}/ms@{tokens}", median
            yield f"profile/{name}/ms@{tokens}/spread", spread

    def _speed(self, subject: EvalContext) -> Figures:
        """Tokens per second and ms per batch, with repeats."""
        decoding = DecodingSpeed(
            prompt_len=PROMPT,
            new_tokens=self.new_tokens,
            segment=256,
            repeats=self.repeats,
            recompute_steps=2,
        )
        training = TrainingStep(
            batch_size=self.batch_size, context=self.context, steps=self.repeats, warmup=2
        )
        return {**dict(decoding.run(subject)), **dict(training.run(subject))}

    def _operations(self, subject: EvalContext) -> list[str]:
        """The trace is written; returns the table of the costliest operations, as Markdown."""
        step = stepper(subject, self.batch_size, self.context)
        step()  # warm
        with torch.profiler.profile(
            activities=scenarios.activities(subject.device),
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
        ) as seen:
            with record_function("training"):
                for _ in range(self.train_steps):
                    step()
            with record_function("decoding"):
                write_tokens(subject, PROMPT, self.decode_tokens)
        part = subject.folder / f".{TRACE}.part"
        seen.export_chrome_trace(str(part))
        os.replace(part, subject.folder / TRACE)
        key = f"self_{'device' if subject.device == 'cuda' else 'cpu'}_time_total"
        table = seen.key_averages().table(sort_by=key, row_limit=ROWS, max_name_column_width=45)
        return [
            f"## Operations of {self.train_steps} training steps ({self.batch_size} x "
            f"{self.context}) and {self.decode_tokens} tokens decoded, by {key}",
            f"```\n{table.strip()}\n```\n",
        ]


def _summary(subject: EvalContext, quality: dict[str, float], speed: Figures) -> Table:
    vram = speed["mem/peak_vram_gb"]
    return Table(
        "Profile",
        ["Config", "PPL", "Tokens/s", "Peak VRAM (GB)", "Peak RSS (GB)", "ms/batch"],
        [
            _cells(
                subject.title,
                f"{quality['ppl']:.3f}",
                _with_spread(speed, "decode/tokens_per_s"),
                "n/a" if vram is None else f"{vram:.3f}",
                f"{speed['decode/peak_rss_gb']:.3f}",
                _with_spread(speed, "train/ms_per_batch"),
            )
        ],
    )


def _with_spread(speed: Figures, key: str) -> str:
    spread = speed[f"{key}/spread"]
    return f"{speed[key]:.1f}" + ("" if spread is None else f" (IQR {spread:.1f})")


def _against(rows: Sequence[Row], backend: str, repeats: int) -> Table:
    """Each part by hand and by torch, with their ratio."""
    times = {(name, tokens): (median, spread) for name, tokens, median, spread in rows}
    table = Table(
        f"Forward at batch 1: median of {repeats} (IQR), ms; torch's SDPA ran {backend}",
        ["Part", "Tokens", "Manual", "SDPA", "Manual / SDPA"],
    )
    for name, tokens in times:
        part, _, kernel = name.partition("/")
        if kernel == "sdpa":
            continue
        by_hand, by_torch = times[name, tokens], times.get((f"{part}/sdpa", tokens))
        table.rows.append(
            _cells(
                {"attention": "Attention alone", "mhsa": "QKV + attention + output", "ffn": "FFN"}[
                    part
                ],
                str(tokens),
                "{:.2f} ({:.2f})".format(*by_hand),
                "{:.2f} ({:.2f})".format(*by_torch) if by_torch else "the same",
                f"{by_hand[0] / by_torch[0]:.2f}" if by_torch else "",
            )
        )
    return table


def _cells(*texts: str) -> list[Cell]:
    return [Cell(text) for text in texts]
