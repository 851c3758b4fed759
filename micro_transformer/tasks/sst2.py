"""The sentiment of sentences from film reviews as a classification task."""

from pathlib import Path
from typing import Literal

from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.tasks.classification import Classification


class SST2(Classification):
    """Sentences that speak well or badly of a film (Socher et al., 2013), read with the tokenizer
    of task=mlm. size: 2k: 2,000 sentences to train on | all: all, and phrases of them."""

    corpus = "sst2"
    classes = ("bad", "good")

    def __init__(
        self,
        data_root: Path | str,
        *,
        size: Literal["2k", "all"] = "2k",
        tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "bpe_4k",
    ) -> None:
        knobs = {"size": size, "tokenizer": tokenizer}
        super().__init__(open_prepared(data_root, self.corpus, knobs))
