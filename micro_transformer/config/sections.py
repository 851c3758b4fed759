"""The sections of a configuration that are no component: their keys, types and ranges.

A default is a knob's neutral value, as in a constructor: it says what a yaml without the knob means
and never changes, since fingerprints leave the knob out there (`neutral.py`).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from micro_transformer.config.groups import NONE
from micro_transformer.config.knobs import (
    Count,
    Few,
    NonNegative,
    Positive,
    Probability,
    Rate,
    Seconds,
    Size,
)


@dataclass(frozen=True)
class Model:
    """conf/model: model size and knobs of the Transformer blocks."""

    d_model: Count
    num_layers: Count
    num_heads: Count
    ffn_ratio: Positive
    max_len: Count
    norm: Literal["layer", "rms"]
    norm_gain: bool
    qk_norm: bool
    key_shift: bool
    bias: bool
    embedding_norm: bool
    tied_embeddings: bool
    zero_init: bool
    num_kv_heads: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Train:
    """conf/train: a training recipe. Every field is part of the training's fingerprint."""

    scaling: str  # RoPE scaling from the base's context length to this recipe's
    steps: Count
    batch_size: Count
    context: Count
    accumulate: Count
    optimizer: Literal["adamw", "muon"]
    lr: Positive
    matrix_lr: Positive
    betas: list[Rate]
    weight_decay: NonNegative
    warmup_steps: Size
    decay: Literal["cosine", "linear"]
    decay_from: Rate
    min_lr_ratio: Probability
    clip: Positive | None
    label_smoothing: Rate
    dropout: Rate
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    matrix_dtype: Literal["auto", "fp32", "bf16"] = "auto"  # of Muon's Newton-Schulz
    kernel: str
    threads: Few | Literal["auto"]
    grad_checkpointing: bool
    compile: bool
    eval_every: Count
    patience: Count | None
    checkpoint_every: Count


@dataclass(frozen=True)
class Base:
    """conf/base: the choices in which the pre-trained net differs from the net that starts from its
    weights, and its own seed, so that all seeds of a fine-tuning share one pre-trained net.

    task, arch: null where they are those of the fine-tuning. A base of another task has the
    tokenizer of the fine-tuning, so that ids mean the same.
    """

    seed: Size
    train: str
    base: str = NONE
    task: str | None = None
    arch: str | None = None


@dataclass(frozen=True)
class Run:
    """conf/config.yaml `run`: how jobs are executed; never part of a fingerprint."""

    sweep: str | None
    force: bool
    plan: bool
    bench: Literal["concurrent", "alone"]
    trace: bool
    show_samples: Size
    timeout_s: Seconds | None


@dataclass(frozen=True)
class Store:
    """conf/config.yaml `store`: the folder of trained models."""

    dir: str


@dataclass(frozen=True)
class Budget:
    """Memory limits; a job that exceeds one is recorded as `oom`. kv_mb: KV cache in MB."""

    kv_mb: Positive | None


@dataclass(frozen=True)
class Data:
    """conf/config.yaml `data`: the folder of prepared data."""

    dir: str


SECTIONS: dict[str, type] = {
    "model": Model, "train": Train, "base": Base, "budget": Budget, "run": Run, "store": Store,
    "data": Data,
}  # fmt: skip


def defaults(section: type) -> dict[str, Any]:
    """Maps knob -> neutral value, for the knobs that have one."""
    fields = {field.name: field.default for field in dataclasses.fields(section)}
    return {name: value for name, value in fields.items() if value is not dataclasses.MISSING}
