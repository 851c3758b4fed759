"""The training of a job, and the base training whose weights initialize it. Needs no torch."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micro_transformer.config.base import start_of
from micro_transformer.config.groups import is_neutral
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.store.fingerprints import Fingerprints, fingerprints
from micro_transformer.wording import _

log = logging.getLogger(__name__)
Config = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """A training: its configuration, its entry in the store, its factors and its base."""

    config: Config  # resolved; the training uses only the part in `factors`
    entry: Entry
    factors: dict[str, Any]
    base: "Training | None"  # provides the initial weights; None: random initialization

    @property
    def work(self) -> tuple[Config, Entry, dict[str, Any], Entry | None]:
        """Arguments of `worker.train`."""
        start = None if self.base is None else self.base.entry
        return self.config, self.entry, self.factors, start

    @property
    def completes(self) -> "Training | None":
        """The base without which the stored weights are of no use, as they are an adapter's."""
        return None if is_neutral("adapter", self.config["adapter"]) else self.base

    def is_stored(self) -> bool:
        """Whether the finished training is stored and intact; a damaged one is set aside with a
        warning."""
        try:
            is_whole = self.entry.verify()
        except Damaged as damage:
            self.set_aside(str(damage))
            return False
        if is_whole and (difference := self.entry.other_torch()):
            log.warning("%s", difference)
        return is_whole

    def set_aside(self, damage: str) -> None:
        """The finished training is moved out of the way, with a warning that gives the reason."""
        log.warning(_("%s; it is set aside and trained again"), damage)
        self.entry.set_aside()


def of(config: Config, prints: Fingerprints) -> Training:
    """The training of a resolved configuration. Its base is the training that its origin describes,
    so that all fine-tunings of one base share it, whatever their seeds."""
    base, start = None, start_of(config)
    if start is not None:
        is_alike = start["task"] == config["task"]
        # Of a base of another task the digests after its own, see `data_digest`.
        data = prints.data if is_alike else prints.data.partition(" ")[2]
        base = of(start, fingerprints(start, data))
    entry = Entry(Path(config["store"]["dir"]), prints.train)
    return Training(config, entry, prints.factors, base)
