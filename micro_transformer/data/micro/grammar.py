"""Tiny stories as draws from a known distribution: sampled, taken apart, and their entropy computed
exactly.

A script (which sentences, in which order) is drawn uniformly; then each variable that its sentences
speak of, uniformly from its list, some without the value of another. So every story of a script has
the same probability,

    -log p(story) = ln(scripts) + sum over the script's variables of ln(choices),

and if no two derivations give the same text, this is the text's own log-probability and its mean
the entropy. `derivations` finds all derivations of a text; that there is one is tested, not
assumed.

A floor for models: for any fixed distribution q and text x drawn from p, P(log q(x) - log p(x) >=
t) <= e^-t (Markov's inequality). So -log p of a validation text cannot be beaten by 10 nats in
total but with probability 5e-5.
"""

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from micro_transformer.data.micro import lexicon as words
from micro_transformer.data.micro import sentences as say

LANGUAGES = ("en", "es")
Sentence = Callable[..., say.Both]
Script = tuple[Sentence, ...]

# In the order in which they are drawn; people and spots are drawn twice without repeating the
# first.
VARIABLES: dict[str, list[Any]] = {
    "hero": words.PEOPLE,
    "home": words.HOMES,
    "hobby": words.HOBBIES,
    "weather": words.WEATHER,
    "time": words.TIMES,
    "thing": words.THINGS,
    "colour": words.COLOURS,
    "place": words.PLACES,
    "relation": words.RELATIONS,
    "friend": words.PEOPLE,
    "spot": words.SPOTS,
    "last_spot": words.SPOTS,
    "ending": words.ENDINGS,
    "feeling": list(range(len(words.FEELINGS[0]))),
}
DIFFERS_FROM = {"friend": "hero", "last_spot": "spot"}
STORY_START, QUESTION_START, BETWEEN = "\n\n", "\n", " "


def _scripts() -> Iterator[Script]:
    """Every script: a find, what became of it, how it ended, and a question about a stated fact."""
    openings: list[Script] = [
        (say.lived,),
        (say.lived, say.liked),
        (say.lived, say.weather_was),
        (say.lived, say.liked, say.weather_was),
    ]
    for opening, given, moved in itertools.product(openings, (True, False), (True, False)):
        fate: Script = (say.gave,) if given else (say.kept,)
        if moved:
            fate += (say.friend_moved if given else say.hero_moved,)
        questions: list[Script] = [
            (say.ask_colour, say.tell_colour),
            (say.ask_place, say.tell_place),
            (say.ask_owner, say.tell_friend if given else say.tell_hero),
        ]
        if moved or not given:  # where a friend keeps the thing is not told
            questions += [(say.ask_spot, say.tell_last_spot if moved else say.tell_spot)]
        for question in questions:
            middle: Script = (say.found, say.showed, say.put_away, *fate, say.ended, say.felt)
            yield (*opening, *middle, *question)


SCRIPTS: tuple[Script, ...] = tuple(_scripts())


@dataclass(frozen=True)
class Story:
    """A script and a value for each of its variables."""

    script: Script
    plan: dict[str, Any]

    def sentences(self, language: str) -> list[str]:
        """The sentences of the story; those of the two languages correspond one to one."""
        which = LANGUAGES.index(language)
        return [sentence(**_pick(self.plan, sentence))[which] for sentence in self.script]

    def text(self, language: str) -> str:
        """The story as in running text, beginning with an empty line."""
        *story, question, answer = self.sentences(language)
        return STORY_START + BETWEEN.join(story) + QUESTION_START + question + BETWEEN + answer

    @property
    def sentiment(self) -> int:
        """1 if it ends well, 0 if badly."""
        return self.plan["ending"].sentiment

    @property
    def surprisal(self) -> float:
        """-log p in nats."""
        return _surprisal(self.script)


def draw(seed: int, index: int) -> Story:
    """Story number `index` of a seed, independent of earlier draws."""
    rng = np.random.default_rng((seed, index))
    script = SCRIPTS[int(rng.integers(len(SCRIPTS)))]
    plan: dict[str, Any] = {}
    for name in variables(script):
        choices = choices_of(name, plan)
        plan[name] = choices[int(rng.integers(len(choices)))]
    return Story(script, plan)


def derivations(text: str, language: str) -> list[Story]:
    """Every derivation of a text; none if the grammar cannot generate it."""
    parts = re.findall(r"[^.?]+[.?]", text)
    parts = [part.lstrip() for part in parts]
    found = []
    for script in SCRIPTS:
        if len(script) == len(parts):
            found += [
                story
                for plan in _bindings(script, parts, LANGUAGES.index(language))
                if (story := Story(script, plan)).text(language) == text
            ]
    return found


def log_prob(text: str, language: str) -> float:
    """Exact log-probability of a text as one story, in nats; -inf if the grammar cannot generate
    it."""
    total = sum(math.exp(-story.surprisal) for story in derivations(text, language))
    return math.log(total) if total else -math.inf


def entropy() -> float:
    """Entropy in nats per story."""
    return sum(map(_surprisal, SCRIPTS)) / len(SCRIPTS)


def mean_length(language: str) -> float:
    """Expected number of characters per story, with the empty line before it.

    It is linear in the sentences; each is averaged over the values of its own variables, which
    are uniform by symmetry.
    """
    which = LANGUAGES.index(language)
    total = sum(_mean_length(sentence, which) for script in SCRIPTS for sentence in script)
    marks = len(STORY_START) + len(QUESTION_START)
    gaps = sum(
        len(script) - 2 for script in SCRIPTS
    )  # all neighbours but the one before the question
    return (total + gaps * len(BETWEEN)) / len(SCRIPTS) + marks


def entropy_rate(language: str) -> float:
    """Nats per character of an endless sequence of stories: H(story) / expected length."""
    return entropy() / mean_length(language)


@cache
def variables(script: Script) -> tuple[str, ...]:
    """The variables in the sentences of a script, in drawing order."""
    spoken = {name for sentence in script for name in parameters(sentence)}
    return tuple(name for name in VARIABLES if name in spoken)


@cache
def parameters(sentence: Sentence) -> tuple[str, ...]:
    """The variables in a sentence."""
    return tuple(inspect.signature(sentence).parameters)


def choices_of(name: str, plan: dict[str, Any]) -> list[Any]:
    """The values that a variable may take, given the variables drawn before it."""
    other = plan.get(DIFFERS_FROM.get(name, ""))
    return (
        [value for value in VARIABLES[name] if value != other]
        if other is not None
        else VARIABLES[name]
    )


@cache
def _surprisal(script: Script) -> float:
    choices = (len(VARIABLES[name]) - (name in DIFFERS_FROM) for name in variables(script))
    return math.log(len(SCRIPTS)) + sum(map(math.log, choices))


def _plans(names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """All joint values of some variables."""
    for values in itertools.product(*(VARIABLES[name] for name in names)):
        plan = dict(zip(names, values, strict=True))
        if all(plan[a] != plan[b] for a, b in DIFFERS_FROM.items() if a in plan and b in plan):
            yield plan


@cache
def _mean_length(sentence: Sentence, which: int) -> float:
    lengths = [len(sentence(**plan)[which]) for plan in _plans(parameters(sentence))]
    return sum(lengths) / len(lengths)


@cache
def _readings(sentence: Sentence, which: int) -> dict[str, list[dict[str, Any]]]:
    """Maps text -> all values of the sentence's variables that give it."""
    readings: dict[str, list[dict[str, Any]]] = {}
    for plan in _plans(parameters(sentence)):
        readings.setdefault(sentence(**plan)[which], []).append(plan)
    return readings


def _bindings(script: Script, parts: list[str], which: int) -> list[dict[str, Any]]:
    """Every plan under which the script's sentences have these texts."""
    plans: list[dict[str, Any]] = [{}]
    for sentence, part in zip(script, parts, strict=True):
        readings = _readings(sentence, which).get(part, [])
        plans = [plan | more for plan in plans for more in readings if _agree(plan, more)]
        if not plans:
            return []
    return plans


def _agree(plan: dict[str, Any], more: dict[str, Any]) -> bool:
    joined = plan | more
    same = all(plan[name] == value for name, value in more.items() if name in plan)
    return same and all(
        joined[a] != joined[b] for a, b in DIFFERS_FROM.items() if a in joined and b in joined
    )


def _pick(plan: dict[str, Any], sentence: Sentence) -> dict[str, Any]:
    return {name: plan[name] for name in parameters(sentence)}
