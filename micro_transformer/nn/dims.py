"""The sizes and block options of a net."""

from dataclasses import dataclass
from typing import Literal

from micro_transformer.wording import _


@dataclass(frozen=True)
class Dims:
    """Sizes and options shared by all parts of a net: conf/model plus vocabulary and dropout.

    Fields: vocab_size, num_outputs (of the head; of a language model vocab_size), d_model,
    num_layers, num_heads; ffn_ratio (FFN hidden width / d_model), max_len (positions of a learned
    table), norm (layer or rms), norm_gain (with a learned gain), qk_norm (normalise queries and
    keys), key_shift (half of the heads use the key of the previous token), bias (of linear layers,
    and of layer norms with a gain), embedding_norm (normalise the input of the first block),
    tied_embeddings (embedding and vocabulary head share weights), zero_init (residual output
    weights start at 0, otherwise with std 0.02 / sqrt(2 num_layers)), num_kv_heads (heads of keys
    and values, each shared by num_heads / num_kv_heads query heads; None: num_heads), dropout (on
    embeddings and residual branches).
    """

    vocab_size: int
    num_outputs: int
    d_model: int
    num_layers: int
    num_heads: int
    ffn_ratio: float = 4.0
    max_len: int = 4096
    norm: Literal["layer", "rms"] = "layer"
    norm_gain: bool = False
    qk_norm: bool = True
    key_shift: bool = False
    bias: bool = False
    embedding_norm: bool = False
    tied_embeddings: bool = False
    zero_init: bool = False
    num_kv_heads: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ValueError(
                _(
                    "d_model={d_model} is not a multiple of num_heads={num_heads}; "
                    "change one of them",
                    d_model=self.d_model,
                    num_heads=self.num_heads,
                )
            )

        if self.num_heads % self.kv_heads:
            raise ValueError(
                _(
                    "num_heads={num_heads} is not a multiple of num_kv_heads={num_kv_heads}; "
                    "change one of them",
                    num_heads=self.num_heads,
                    num_kv_heads=self.kv_heads,
                )
            )

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.num_heads

    @property
    def d_ff(self) -> int:
        """Hidden width of an FFN without gates."""
        return round(self.ffn_ratio * self.d_model)
