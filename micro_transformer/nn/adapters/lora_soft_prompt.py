"""LoRA and a soft prompt together."""

from typing import Literal

from micro_transformer.config.knobs import Count, Positive
from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.adapters.lora import LoRA
from micro_transformer.nn.adapters.soft_prompt import SoftPrompt
from micro_transformer.nn.arch.base import Net


class LoRASoftPrompt(Adapter):
    """Both at once, to see whether what they gain adds up; knobs as in each. lr is LoRA's rate,
    prompt_lr the prompt's."""

    def __init__(
        self,
        *,
        rank: Count,
        alpha: Positive,
        targets: list[Literal["q", "k", "v", "out"]],
        lr: Positive,
        num_tokens: Count,
        prompt_lr: Positive,
    ):
        lora = LoRA(rank=rank, alpha=alpha, targets=targets, lr=lr)
        self.parts: tuple[Adapter, ...] = (lora, SoftPrompt(num_tokens=num_tokens, lr=prompt_lr))

    def insert(self, net: Net) -> None:
        for part in self.parts:
            part.insert(net)

    def merge(self, net: Net) -> None:
        for part in self.parts:
            part.merge(net)
