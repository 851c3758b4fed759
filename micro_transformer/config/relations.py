"""Relations between the knobs of one component, which its class states as a fact:

relations = (("block", "multiple_of", "group"),)
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

from micro_transformer.config.components import Component
from micro_transformer.wording import N_, _, translate

Rule = Callable[[Any, Any], bool]
RELATIONS: dict[str, tuple[Rule, str]] = {
    "multiple_of": (lambda a, b: a % b == 0, N_("a multiple of {other}={value}")),
    "at_least": (operator.ge, N_("at least {other}={value}")),
    "at_most": (operator.le, N_("at most {other}={value}")),
    "above": (operator.gt, N_("above {other}={value}")),
}


def broken(where: str, component: Component, values: dict[str, Any]) -> Iterator[str]:
    """One line per relation of the component that the values of its knobs break."""
    for knob, relation, other in component.facts.get("relations", ()):
        holds, words = RELATIONS[relation]
        if not holds(values[knob], values[other]):
            yield _(
                "{key}={value}: must be {rule}; change one of them",
                key=f"{where}.{knob}",
                value=values[knob],
                rule=translate(words, other=f"{where}.{other}", value=values[other]),
            )
