"""Spanish short stories as a language modelling task."""

from pathlib import Path
from typing import Literal

from micro_transformer.config.knobs import Count
from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.tasks.language_modeling import LanguageModeling


class Cuentos(LanguageModeling):
    """18 books of 1880-1928 (CLiGS); no book, or no author, is in two splits."""

    corpus = "cuentos"

    def __init__(
        self,
        data_root: Path | str,
        *,
        text: Literal["raw", "clean"] = "clean",
        group: Literal["book", "author"] = "book",
        tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "char",
        window: Count = 256,
    ) -> None:
        knobs = {"text": text, "group": group, "tokenizer": tokenizer}
        super().__init__(open_prepared(data_root, self.corpus, knobs), window=window)
