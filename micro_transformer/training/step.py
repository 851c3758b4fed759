"""One optimizer step, as the trainer makes it and the bench times it."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from micro_transformer.config.sections import Train
from micro_transformer.seeds import stream
from micro_transformer.tasks.base import Task
from micro_transformer.training.optimizers import Optimizers
from micro_transformer.training.ranks import Ranks


class TrainingStep:
    """Forward and backward pass of each micro-batch, then clipping and an update of the weights.

    model: a Net. Random draws are stateless: batch and dropout of step n depend only on (seed, n).
    Each rank processes its rows of the global batch.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        recipe: Train,
        *,
        seed: int,
        device: str,
        ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    ):
        self.model, self.task, self.recipe = model, task, recipe
        self.seed, self.device, self.ranks = seed, device, ranks
        self.optimizers = Optimizers(model, recipe, device)
        self.forward: Any = torch.compile(model) if recipe.compile else model

    def __call__(self, number: int) -> tuple[dict[str, float | None], int]:
        """The weights have made step `number` (from 0). Returns lr, train/loss (mean over ranks,
        without auxiliary losses) and grad_norm (None without clipping or on an fp16 overflow), and
        the number of tokens of all ranks.
        """
        rate = self.optimizers.set_rate(number)
        torch.manual_seed(stream(self.seed, "dropout", number, *self.ranks.name))
        self.model.train()
        aux_scale = self.optimizers.scaled(1 / self.recipe.accumulate)
        forward: Any = partial(self.forward, aux_scale=aux_scale)
        total = torch.zeros((), device=self.device)
        batches = self.batches(number)
        for batch, weight in self.shares(batches):
            with self.optimizers.autocast():
                loss = self.task.loss(forward, batch, self.recipe.label_smoothing) * weight
            self.optimizers.backward(loss)
            total += loss.detach()
        self.ranks.average_gradients(self.model)
        norm = self.optimizers.update()
        line = {"lr": rate, "train/loss": self.ranks.mean(total).item(), "grad_norm": norm}
        return line, int(sum(map(self.task.num_tokens, batches)))

    def batches(self, number: int) -> list[Any]:
        """The micro-batches of a step, with the rows of all ranks."""
        recipe = self.recipe
        return [
            self.task.train_batch(
                seed=stream(self.seed, "data"),
                step=number * recipe.accumulate + part,
                batch_size=recipe.batch_size,
                context=recipe.context,
                device=self.device,
            )
            for part in range(recipe.accumulate)
        ]

    def shares(self, batches: list[Any]) -> list[tuple[Any, Tensor]]:
        """(this rank's rows, loss weight ()) of each micro-batch. With these weights, summing mean
        losses over micro-batches and averaging over ranks gives the mean over all targets.
        """
        scored = self.task.num_scored
        targets = torch.as_tensor(sum(map(scored, batches))).clamp(min=1)
        shares = map(self.ranks.share, batches)
        return [(share, self.ranks.size * scored(share) / targets) for share in shares]
