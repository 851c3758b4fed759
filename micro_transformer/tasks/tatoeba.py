"""English-Spanish sentence pairs of Tatoeba as a translation task."""

from pathlib import Path
from typing import Any, Literal

from micro_transformer.config.knobs import Count, Size
from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.tasks.translation import Translation


class Tatoeba(Translation):
    """Short sentences, case kept, several references per source; DataMissing names the command when
    they are not prepared.
    """

    corpus = "tatoeba"

    def __init__(
        self,
        data_root: Path | str,
        *,
        pairs: Size = 20_000,
        direction: Literal["en-es", "es-en"] = "en-es",
        max_tokens: Count = 128,
        tokenizer: Literal["char", "byte", "bpe_4k", "bpe_8k"] = "bpe_4k",
    ) -> None:
        knobs: dict[str, Any] = {"pairs": pairs, "direction": direction}
        knobs |= {"max_tokens": max_tokens, "tokenizer": tokenizer}
        super().__init__(open_prepared(data_root, self.corpus, knobs))
