"""The head alone is trained: a linear probe."""

from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.arch.base import Net
from micro_transformer.wording import _


class HeadOnly(Adapter):
    """All is frozen but the layers after the last block, the base's own head included (a linear
    probe, Alain and Bengio, 2016). Without a base the control: a head on frozen random features.
    """

    needs_base = False

    def insert(self, net: Net) -> None:
        """ValueError where the head is the embedding."""
        for layer in net.output_layers():
            for parameter in layer.parameters():
                if parameter is net.embedding.weight:
                    raise ValueError(
                        _(
                            "adapter kind HeadOnly: model.tied_embeddings=true makes the head the "
                            "embedding, which is frozen; use model.tied_embeddings=false"
                        )
                    )
                parameter.requires_grad_(True)
