"""What precedes every text that a net reads: nothing, unless an adapter has a prompt."""

from torch import Tensor, nn

from micro_transformer.nn.cache.base import Cache

# B batch, T tokens of the text, n of the prefix, D model width


class Prefix(nn.Module):
    """Nothing. `nn/adapters/soft_prompt.py` puts learned vectors in its place."""

    num_tokens = 0  # n

    def forward(
        self, x: Tensor, pos: Tensor | None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, T, D) and positions (B, T), None where they follow the cached tokens ->
        those of prefix and text, (B, n + T, ...); of the text alone if it continues a cached one.
        """
        return x, pos

    def cut(self, x: Tensor, num_tokens: int) -> Tensor:
        """(B, n + T, ...) -> (B, T, ...): the columns of the text, of num_tokens tokens."""
        return x
