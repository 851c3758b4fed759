"""A tiny net on an invented text, as evaluators and benches are given it."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import torch

from micro_transformer.config.components import find
from micro_transformer.config.data_needs import read_by
from micro_transformer.config.schema import choices_of, read_choice
from micro_transformer.config.sections import Train
from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.base import Corpus
from micro_transformer.data.corpora.mlm import MaskedText
from micro_transformer.data.corpora.sst2 import SST2 as Reviews
from micro_transformer.data.corpora.tatoeba import Tatoeba as Pairs
from micro_transformer.data.tokenizer import CharTokenizer
from micro_transformer.evals.base import EvalContext
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.dims import Dims
from micro_transformer.records.record_files import load_records
from micro_transformer.records.run_record import RunRecord
from micro_transformer.tasks.base import Task
from micro_transformer.tasks.language_modeling import LanguageModeling

TEXT = "Now is the winter of our discontent, made glorious summer; by this sun of York. " * 30
ROOT = Path(__file__).resolve().parents[2]
THREADS = ("train.threads=1", "bench.threads=1", "device=cpu")
TRAIN = {**read_choice("train", "smoke"), "precision": "fp32", "matrix_dtype": "fp32"}
TRAIN |= {"threads": 1}
FEW = {"pairs": 4, "spare": 4, "start": 16, "grow_every": 2, "window": 32, "sequences": 3}


def component(group: str, choice: str, *runtime, **changes):
    """A component as its yaml makes it, with changes; tasks that generate data generate little."""
    knobs = read_choice(group, choice) | changes
    knobs |= {k: v for k, v in FEW.items() if group == "task" and k in knobs}
    return find(group, knobs.pop("kind")).load()(*runtime, **knobs)


def tiny_subject(
    folder: Path,
    *,
    posenc: str = "rope",
    cache: str = "contiguous",
    decoding: str = "top_k",
    ffn: str = "gelu",
) -> EvalContext:
    """Two layers of 32, untrained, residual branches on."""
    tokenizer = CharTokenizer.train(TEXT)
    tokens = tokenizer.encode(TEXT)
    sizes = {"columns": {"text": {"bytes": len(tokens)}}}
    data = SimpleNamespace(
        tokenizer=tokenizer, tokens=lambda split: tokens, splits={"train": sizes, "val": sizes}
    )
    return _subject(folder, LanguageModeling(data, window=32), posenc, cache, decoding, ffn)


def recall_subject(folder: Path, *, posenc: str = "alibi") -> EvalContext:
    """The same net before pairs and queries."""
    return _subject(folder, component("task", "recall", ""), posenc, "contiguous", "top_k")


def translation_subject(
    folder: Path, *, decoding: str = "greedy", ffn: str = "gelu"
) -> EvalContext:
    """A net that reads a source, before pairs of sentences of our grammar."""
    root = folder / "data"
    prepare(Pairs(pairs=200), root, tier="grammar")
    task = find("task", "Tatoeba").load()(root, pairs=200)
    return _subject(folder, task, "rope", "contiguous", decoding, ffn)


def sentence_subject(folder: Path, choice: str, *, ffn: str = "gelu") -> EvalContext:
    """An encoder before sentences of our grammar: of task=sst2 or task=mlm."""
    corpus = {"sst2": Reviews, "mlm": MaskedText}[choice]
    root = sentence_data(corpus(tokenizer="bpe_1k"))
    task = component("task", choice, root, tokenizer="bpe_1k")
    return _subject(folder, task, "rope", "contiguous", "greedy", ffn)


@cache
def sentence_data(corpus: Corpus) -> Path:
    """The folder of the corpus prepared from our grammar, once for all tests of a process."""
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root)
    prepare(corpus, root, tier="grammar")
    return root


def subjects(folder: Path) -> Iterator[EvalContext]:
    """A net before running text, before each task that generates its data, before pairs of
    sentences, and before single ones with labels and with masks."""
    yield tiny_subject(folder)
    for choice in choices_of("task"):
        if find("task", read_choice("task", choice)["kind"]).facts["corpus"] is None:
            yield _subject(folder, component("task", choice, ""), "alibi", "contiguous", "top_k")
    yield translation_subject(folder)
    for choice in ("sst2", "mlm"):
        yield sentence_subject(folder, choice)


def subject_for(group: str, kind: str, folder: Path) -> EvalContext:
    """A subject whose task and net give all that the evaluator or bench needs."""
    facts = find(group, kind).facts
    if facts.get("of_experts"):
        return tiny_subject(folder, ffn="moe")
    needs = set(facts.get("needs", ()))
    return next(s for s in subjects(folder) if needs <= set(s.task.gives))


def run(folder: Path, *words: str) -> RunRecord:
    """The record of one run of run.py in a folder, in a process of its own."""
    command = [sys.executable, str(ROOT / "run.py"), *words, "bench=none", *THREADS]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = load_records(folder / "outputs").records
    return record


def with_model(subject: EvalContext, model: torch.nn.Module) -> EvalContext:
    """The subject with another model, which has positions without end."""
    model.posenc = torch.nn.Module()
    model.posenc.trained_table = False
    return replace(subject, model=model)


def net_for(task: Task) -> Callable[..., Net]:
    """A net that reads what the task gives."""
    nets = [read_choice("arch", choice) for choice in choices_of("arch")]
    knobs = next(net for net in nets if set(read_by(net)) <= set(task.gives))
    return partial(find("arch", knobs.pop("kind")).load(), **knobs)


def _subject(
    folder: Path, task: Task, posenc: str, cache: str, decoding: str, ffn: str = "gelu"
) -> EvalContext:
    dims = Dims(
        task.vocab_size, task.num_outputs, d_model=32, num_layers=2, num_heads=2, max_len=256
    )

    def new_model() -> Net:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return net_for(task)(
                dims,
                component("posenc", posenc, dims),
                component("pattern", "full"),
                lambda: component("ffn", ffn, dims),
                lambda: component("attention", "sdpa"),
            )

    return EvalContext(
        model=new_model().eval(),
        task=task,
        recipe=Train(**(TRAIN | {"context": dims.max_len})),
        title=f"{posenc} {cache} {decoding}",
        strategy=component("decoding", decoding),
        make_cache=lambda spec: component("cache", cache, spec),
        new_model=new_model,
        folder=folder,
        device="cpu",
        seed=7,
    )
