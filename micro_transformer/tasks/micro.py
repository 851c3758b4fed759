"""The tiny stories of our own grammar as a language modelling task."""

from pathlib import Path
from typing import Literal

from micro_transformer.config.knobs import Count
from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.tasks.language_modeling import LanguageModeling


class Micro(LanguageModeling):
    """Synthetic stories; `data.manifest["facts"]` has the entropy, a lower bound of the loss."""

    corpus = "micro"
    splits = "train val"

    def __init__(
        self,
        data_root: Path | str,
        *,
        language: Literal["en", "es"] = "en",
        stories: Count = 4000,
        tokenizer: Literal["char", "byte", "bpe_1k"] = "char",
        window: Count = 256,
    ) -> None:
        knobs = {"language": language, "stories": stories, "tokenizer": tokenizer}
        super().__init__(open_prepared(data_root, self.corpus, knobs), window=window)
