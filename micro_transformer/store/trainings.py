"""What must be trained for a job: its own training, and the one whose weights that starts from.

Knows no torch.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.store.fingerprints import Fingerprints, fingerprints

log = logging.getLogger(__name__)
Config = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """A training, its place in the store, and what it depends on."""

    config: Config  # resolved; of it a training sees its factors alone
    entry: Entry
    factors: dict[str, Any]
    base: "Training | None"  # whose weights it starts from; None: fresh ones

    @property
    def work(self) -> tuple[Config, Entry, dict[str, Any], Entry | None]:
        """What `worker.train` is given."""
        start = None if self.base is None else self.base.entry
        return self.config, self.entry, self.factors, start

    def is_stored(self) -> bool:
        """Whether it lies in the store, whole; a damaged one is named and set aside."""
        try:
            is_whole = self.entry.verify()
        except Damaged as damage:
            self.set_aside(str(damage))
            return False
        if is_whole and (difference := self.entry.other_torch()):
            log.warning("%s", difference)
        return is_whole

    def set_aside(self, damage: str) -> None:
        """The finished training is out of the way, and why is said."""
        log.warning("%s; it is set aside and trained again", damage)
        self.entry.set_aside()


def of(config: Config, prints: Fingerprints) -> Training:
    """The training of a resolved configuration. Its base is the one that the same configuration
    has under the base's recipe, so that all that start from it share it."""
    base = None
    if config["origin"] is not None:
        alike = {**config, "train": config["origin"]["train"], "origin": None}
        base = of(alike, fingerprints(alike, prints.data))
    entry = Entry(Path(config["store"]["dir"]), prints.train)
    return Training(config, entry, prints.factors, base)
