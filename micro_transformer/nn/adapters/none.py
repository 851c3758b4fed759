"""No adapter: every parameter is trained."""

from collections.abc import Iterable

from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.arch.base import Net


class NoAdapter(Adapter):
    """Full fine-tuning, or training from scratch without a base: nothing is frozen or added."""

    needs_base = False

    def adapt(self, net: Net, fresh: Iterable[str] = ()) -> None:
        """Nothing is changed."""
