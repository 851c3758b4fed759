"""The kind of every parameter: how initialisation and optimizers treat it.

A module declares those of its own parameters in a class attribute, as `kinds = {"weight": MATRIX}`;
subclasses add to it or override it. Modules of torch are listed here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from micro_transformer.wording import _

STD = 0.02  # standard deviation of initial weights (Radford et al., 2018)


def _normal(parameter: Tensor) -> None:
    nn.init.normal_(parameter, std=STD)


@dataclass(frozen=True)
class Kind:
    """Kind of a parameter.

    initial: fills it in place; None: it keeps the values that its module gave it. orthogonalized:
    Muon updates it if the recipe has Muon. decays: it has weight decay, under either optimizer.
    """

    name: str
    initial: Callable[[Tensor], Any] | None
    orthogonalized: bool = False
    decays: bool = False


MATRIX = Kind("matrix", _normal, orthogonalized=True, decays=True)  # (out, in)
EXPERTS = Kind("expert stack", _normal, orthogonalized=True, decays=True)  # (expert, out, in)
ROUTER = Kind("router", _normal, decays=True)  # its rows are experts: no map between features
ADAPTER = Kind("adapter", None, decays=True)  # low rank; decays towards the base model
TABLE = Kind("table", _normal)  # one row per token or position; also the vocabulary head
PROMPT = Kind("prompt", None)  # embeddings, initialised from those of the vocabulary
GAIN = Kind("gain", None)
BIAS = Kind("bias", nn.init.zeros_)
KINDS = (MATRIX, EXPERTS, ROUTER, ADAPTER, TABLE, PROMPT, GAIN, BIAS)

OF_TORCH: dict[type, dict[str, Kind]] = {
    nn.Linear: {"weight": MATRIX, "bias": BIAS},
    nn.Embedding: {"weight": TABLE},
    nn.LayerNorm: {"weight": GAIN, "bias": BIAS},
    nn.RMSNorm: {"weight": GAIN},
}


def declared(module: nn.Module) -> dict[str, Kind]:
    """Maps name -> kind, as the module's class and its bases declare."""
    found: dict[str, Kind] = {}
    for base in reversed(type(module).__mro__):
        found |= OF_TORCH.get(base, {}) | vars(base).get("kinds", {})
    return found


def own_rates(net: nn.Module) -> dict[Tensor, float]:
    """Parameters of modules that state a peak learning rate of their own, `lr`, in place of the
    recipe's -> that rate."""
    stating = [module for module in net.modules() if hasattr(module, "lr")]
    return {p: m.lr for m in stating for p in m.parameters(recurse=False)}  # type: ignore[misc]


def parameter_kinds(net: nn.Module) -> Iterator[tuple[Tensor, Kind]]:
    """(parameter, kind) in the order of modules; a shared parameter once per module. ValueError for
    a parameter without a kind."""
    for path, module in net.named_modules():
        kinds = declared(module)
        for name, parameter in module.named_parameters(recurse=False):
            if name not in kinds:
                raise ValueError(
                    _(
                        "{path}: {kind}.{name} has no kind; declare it in {kind}.kinds",
                        path=path,
                        kind=type(module).__name__,
                        name=name,
                    )
                )
            yield parameter, kinds[name]
