"""Base class of strategies: the knobs that all of them have."""

from micro_transformer.config.knobs import Guidance, Positive, Size
from micro_transformer.decoding import processors
from micro_transformer.decoding.base import Strategy
from micro_transformer.decoding.processors import Processor


class Penalised(Strategy):
    """A strategy with penalties on repeated tokens, which come before all else, and guidance."""

    abstract = True

    def __init__(
        self,
        *,
        repetition_penalty: Positive = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        no_repeat_ngram_size: Size = 0,
        guidance_scale: Guidance = 1.0,
    ):
        self.repetition_penalty = repetition_penalty
        self.frequency_penalty = frequency_penalty
        self.presence_penalty = presence_penalty
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.guidance_scale = guidance_scale

    def penalties(self, prompt_len: int) -> list[Processor]:
        """The active ones, in order; an option at its neutral value adds none."""
        chain: list[Processor] = []
        if self.repetition_penalty != 1:
            chain.append(processors.repetition(self.repetition_penalty))
        if self.frequency_penalty:
            chain.append(processors.frequency(self.frequency_penalty, start=prompt_len))
        if self.presence_penalty:
            chain.append(processors.presence(self.presence_penalty, start=prompt_len))
        if self.no_repeat_ngram_size:
            chain.append(processors.no_repeat_ngram(self.no_repeat_ngram_size))
        return chain
