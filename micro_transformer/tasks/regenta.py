"""One long novel as a language modelling task, for contexts of 8k tokens and more."""

from pathlib import Path
from typing import Literal

from micro_transformer.config.knobs import Count
from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.tasks.language_modeling import LanguageModeling


class Regenta(LanguageModeling):
    """Clarín's La Regenta, first volume: its beginning, a later part and its end."""

    corpus = "regenta"

    def __init__(
        self,
        data_root: Path | str,
        *,
        text: Literal["raw", "clean"] = "raw",
        tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "char",
        window: Count = 8192,
    ) -> None:
        knobs = {"text": text, "tokenizer": tokenizer}
        super().__init__(open_prepared(data_root, self.corpus, knobs), window=window)
