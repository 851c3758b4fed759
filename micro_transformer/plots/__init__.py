"""Figures from rows, one a file. Each is a Plot, or None where the records lack its figures."""

from micro_transformer.plots.effects import effects_plot
from micro_transformer.plots.experts import expert_agreement, expert_loads, gate_scores
from micro_transformer.plots.loss_by_context import loss_by_context
from micro_transformer.plots.losses import train_and_validation
from micro_transformer.plots.memory import memory_by_context
from micro_transformer.plots.perplexity_by_position import ppl_by_stretch
from micro_transformer.plots.ppl_by_epoch import ppl_by_epoch
from micro_transformer.plots.quality_by_trainable import quality_by_trainable
from micro_transformer.plots.recall import recall_map
from micro_transformer.plots.scaling import scaling_plot
from micro_transformer.plots.series import over_seeds
from micro_transformer.plots.speed import speed_bars
from micro_transformer.plots.speed_by_context import speed_by_context
from micro_transformer.plots.style import Plot, rendered, spread

__all__ = [
    "Plot", "effects_plot", "expert_agreement", "expert_loads", "gate_scores", "loss_by_context",
    "memory_by_context", "over_seeds", "ppl_by_epoch", "ppl_by_stretch", "quality_by_trainable",
    "recall_map", "rendered", "scaling_plot", "speed_bars", "speed_by_context", "spread",
    "train_and_validation",
]  # fmt: skip
