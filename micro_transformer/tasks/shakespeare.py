"""TinyShakespeare as a language modelling task."""

from pathlib import Path
from typing import Literal

from micro_transformer.config.knobs import Count
from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.tasks.language_modeling import LanguageModeling


class Shakespeare(LanguageModeling):
    """Nine plays of Shakespeare (Karpathy, 2015); DataMissing names the command when they are not
    prepared.
    """

    corpus = "shakespeare"
    splits = "train val"

    def __init__(
        self,
        data_root: Path | str,
        *,
        text: Literal["raw", "clean"] = "raw",
        split: Literal["contiguous", "grouped"] = "contiguous",
        tokenizer: Literal["char", "byte", "bpe_1k"] = "char",
        window: Count = 128,
    ) -> None:
        knobs = {"text": text, "split": split, "tokenizer": tokenizer}
        super().__init__(open_prepared(data_root, self.corpus, knobs), window=window)
