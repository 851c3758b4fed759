"""What many laws need: the members of every family, and nets small enough to test in no time."""

import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor

from micro_transformer.config import schema
from micro_transformer.config.components import find
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.arch.decoder import DecoderLM
from micro_transformer.nn.arch.encoder import Encoder
from micro_transformer.nn.arch.encoder_decoder import EncoderDecoder
from micro_transformer.nn.cache.base import Cache, CacheSpec
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.visibility import EVERYTHING, Wanted
from tests.sweeps import run_sweep

CONF = Path(__file__).parents[1] / "conf"
torch.set_num_threads(1)
hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine breaks no law
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


def members(group: str) -> list[str]:
    """The choices of a group, found by listing its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# Sizes of tokens that a net of a dozen tokens can feel, in place of those of the yaml.
SMALL = {"window_blocks": 0, "global_blocks": 1, "random_blocks": 1}
SMALL |= {"compiled": False, "num_tokens": 3}
SMALL |= {"block": 4, "window": 5, "sinks": 2, "factor": 4.0, "group": 2, "residual": 3, "hot": 1}


def facts(group: str, choice: str) -> dict[str, Any]:
    """What the class of conf/<group>/<choice>.yaml says of itself."""
    return find(group, schema.read_choice(group, choice)["kind"]).facts


def trainable_kernels() -> list[str]:
    """The choices of attention that have a backward pass on a CPU."""
    return [name for name in members("attention") if facts("attention", name)["trains_on_cpu"]]


def build(group: str, choice: str, *runtime: Any) -> Any:
    """The component that conf/<group>/<choice>.yaml describes, small where it counts tokens."""
    knobs = schema.read_choice(group, choice)
    knobs |= {knob: SMALL[knob] for knob in knobs if knob in SMALL}
    return find(group, knobs.pop("kind")).load()(*runtime, **knobs)


def tiny_dims(**changes: Any) -> Dims:
    """Two layers of four heads of eight channels, over 20 tokens."""
    sizes = {"vocab_size": 20, "d_model": 32, "num_layers": 2, "num_heads": 4, "max_len": 64}
    sizes |= changes
    return Dims(**{"num_outputs": sizes["vocab_size"], **sizes})


def tiny_decoder(*choices: str, **changes: Any) -> DecoderLM:
    """A net whose weights are large enough for every part of it to matter; arguments: `_tiny`."""
    return _tiny(DecoderLM, *choices, **changes)


def tiny_encoder_decoder(*choices: str, **changes: Any) -> EncoderDecoder:
    """As `tiny_decoder`, with two layers in each of encoder and decoder."""
    return _tiny(EncoderDecoder, *choices, **changes)


def tiny_encoder(*choices: str, pooling: str = "none", **changes: Any) -> Encoder:
    """As `tiny_decoder`; num_outputs: classes of a net that pools."""
    return _tiny(partial(Encoder, pooling=pooling), *choices, **changes)


def _tiny(
    kind: Callable[..., Net],
    posenc: str = "rope",
    ffn: str = "gelu",
    attention: str = "sdpa",
    pattern: str = "full",
    **changes: Any,
) -> Any:
    dims = tiny_dims(**changes)
    net = kind(
        dims,
        posenc=build("posenc", posenc, dims),
        pattern=build("pattern", pattern),
        make_ffn=lambda: build("ffn", ffn, dims),
        make_kernel=lambda: build("attention", attention),
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


def rotated(posenc: PositionalEncoding, x: Tensor, pos: Tensor, length: int = 0) -> Tensor:
    """(B, H, T, d) -> same, as self-attention rotates it; unchanged by encodings without one."""
    rotation = posenc.rotation(pos, x.dtype, length)
    return x if rotation is None else rotation.turn(x)


def random_ids(*shape: int, vocab_size: int = 20) -> Tensor:
    """Real tokens: none is 0, which is PAD."""
    return torch.randint(1, vocab_size, shape)


def make_cache(choice: str, net: Net, batch: int, max_len: int = 64) -> Cache:
    """An empty cache for a net."""
    dims = net.dims
    max_len += net.cached_prefix
    spec = CacheSpec(batch, dims.kv_heads, dims.head_dim, max_len, net.dtype, net.device)
    return Cache.make(lambda s: build("cache", choice, s), spec, dims.num_layers)


def every_column(num: int) -> Wanted:
    """The last of `num` tokens wants them all."""
    return Wanted(EVERYTHING, range(num - 1, num), range(num))


@pytest.fixture(scope="session")
def micro_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small set of our own stories; nothing is fetched."""
    root = tmp_path_factory.mktemp("data")
    command = [
        sys.executable,
        "-m",
        "micro_transformer.data",
        "prepare",
        "task=micro",
        "stories=300",
    ]
    subprocess.run([*command, f"root={root}"], check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def real_sweep(tmp_path_factory: pytest.TempPathFactory, micro_data: Path) -> Path:
    """The records of two positions x two seeds, trained in smoke size on our own stories."""
    return run_sweep(tmp_path_factory.mktemp("lab"), micro_data, "posenc=rope,none", "seed=1,2")
