"""The head alone is trained: a linear probe."""

from micro_transformer.config.knobs import Positive
from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.arch.base import Net
from micro_transformer.wording import _


class HeadOnly(Adapter):
    """All is frozen but the layers after the last block, the base's own head included (a linear
    probe, Alain and Bengio, 2016). Without a base the control: a head on frozen random features.

    lr: peak learning rate of the head, in place of the recipe's.
    """

    needs_base = False

    def __init__(self, *, lr: Positive):
        self.lr = lr

    def insert(self, net: Net) -> None:
        """ValueError where the head is the embedding."""
        for layer in net.output_layers():
            layer.lr = self.lr  # type: ignore[assignment]
            for parameter in layer.parameters():
                if parameter is net.embedding.weight:
                    raise ValueError(
                        _(
                            "adapter kind HeadOnly: model.tied_embeddings=true makes the head the "
                            "embedding, which is frozen; use model.tied_embeddings=false"
                        )
                    )
                parameter.requires_grad_(True)
