"""The sentences of the tiny stories: each says one thing about a plan, in English and in Spanish.

A sentence is a function whose parameters name the variables of the plan that it speaks of; the
grammar reads them. It ends with its only full stop or question mark, so that a story can be taken
apart again.
"""

from micro_transformer.data.micro.lexicon import (
    FEELINGS,
    FEMININE,
    Adjective,
    Ending,
    Person,
    Phrase,
    Relation,
    Thing,
)

Both = tuple[str, str]  # English, Spanish


def lived(hero: Person, home: Phrase) -> Both:
    return f"{hero.name} lived {home.en}.", f"{hero.name} vivía {home.es}."


def liked(hero: Person, hobby: Phrase) -> Both:
    return f"{_she(hero)} liked {hobby.en}.", f"Le gustaba {hobby.es}."


def weather_was(weather: Phrase) -> Both:
    return weather.en, weather.es


def found(hero: Person, time: Phrase, thing: Thing, colour: Adjective, place: Phrase) -> Both:
    some = "some" if thing.plural else "a"
    un = {(False, False): "un", (True, False): "una", (False, True): "unos", (True, True): "unas"}
    article = un[thing.gender == FEMININE, thing.plural]
    agreed = colour.es(thing.gender, thing.plural)
    return (
        f"{time.en} {_she(hero).lower()} found {some} {colour.en} {thing.en} {place.en}.",
        f"{time.es} encontró {article} {thing.es} {agreed} {place.es}.",
    )


def showed(hero: Person, relation: Relation, friend: Person, thing: Thing) -> Both:
    woman = friend.gender == FEMININE
    return (
        f"{_she(hero)} showed {_it(thing)} to {_her(hero)} {relation.en[woman]} {friend.name}.",
        f"Se {_lo(thing)} enseñó a su {relation.es[woman]} {friend.name}.",
    )


def put_away(hero: Person, thing: Thing, spot: Phrase) -> Both:
    return (
        f"At home {_she(hero).lower()} put {_it(thing)} {spot.en}.",
        f"En casa {_lo(thing)} puso {spot.es}.",
    )


def gave(hero: Person, friend: Person, thing: Thing) -> Both:
    return (
        f"The next day {_she(hero).lower()} gave the {thing.en} to {friend.name}.",
        f"Al día siguiente le dio {_the(thing)} a {friend.name}.",
    )


def kept(hero: Person, thing: Thing) -> Both:
    return f"{_she(hero)} kept the {thing.en}.", f"Se quedó con {_the(thing)}."


def friend_moved(friend: Person, thing: Thing, last_spot: Phrase) -> Both:
    return _moved(friend, thing, last_spot)


def hero_moved(hero: Person, thing: Thing, last_spot: Phrase) -> Both:
    return _moved(hero, thing, last_spot)


def ended(ending: Ending) -> Both:
    return f"In the end {ending.en}.", f"Al final {ending.es}."


def felt(hero: Person, ending: Ending, feeling: int) -> Both:
    mood = FEELINGS[ending.sentiment][feeling]
    return (
        f"That night {hero.name} felt {mood.en}.",
        f"Aquella noche {hero.name} se sintió {mood.es(hero.gender)}.",
    )


def ask_colour(thing: Thing) -> Both:
    were, eran = ("were", "eran") if thing.plural else ("was", "era")
    return f"What colour {were} the {thing.en}?", f"¿De qué color {eran} {_the(thing)}?"


def tell_colour(thing: Thing, colour: Adjective) -> Both:
    it_was, era = ("They were", "Eran") if thing.plural else ("It was", "Era")
    return f"{it_was} {colour.en}.", f"{era} {colour.es(thing.gender, thing.plural)}."


def ask_place(hero: Person, thing: Thing) -> Both:
    return (
        f"Where did {hero.name} find the {thing.en}?",
        f"¿Dónde encontró {hero.name} {_the(thing)}?",
    )


def tell_place(place: Phrase) -> Both:
    return _answer(place)


def ask_spot(thing: Thing) -> Both:
    were, estaban = ("were", "estaban") if thing.plural else ("was", "estaba")
    return f"Where {were} the {thing.en} in the end?", f"¿Dónde {estaban} {_the(thing)} al final?"


def tell_spot(spot: Phrase) -> Both:
    return _answer(spot)


def tell_last_spot(last_spot: Phrase) -> Both:
    return _answer(last_spot)


def ask_owner(thing: Thing) -> Both:
    return f"Who had the {thing.en} in the end?", f"¿Quién tenía {_the(thing)} al final?"


def tell_hero(hero: Person) -> Both:
    return f"{hero.name}.", f"{hero.name}."


def tell_friend(friend: Person) -> Both:
    return f"{friend.name}.", f"{friend.name}."


def _moved(who: Person, thing: Thing, spot: Phrase) -> Both:
    return (
        f"Later {who.name} put the {thing.en} {spot.en}.",
        f"Más tarde {who.name} puso {_the(thing)} {spot.es}.",
    )


def _answer(where: Phrase) -> Both:
    return where.en.capitalize() + ".", where.es.capitalize() + "."


def _she(person: Person) -> str:
    return "She" if person.gender == FEMININE else "He"


def _her(person: Person) -> str:
    return "her" if person.gender == FEMININE else "his"


def _it(thing: Thing) -> str:
    return "them" if thing.plural else "it"


def _lo(thing: Thing) -> str:
    return ("la" if thing.gender == FEMININE else "lo") + ("s" if thing.plural else "")


def _the(thing: Thing) -> str:
    if thing.gender == FEMININE:
        return f"{'las' if thing.plural else 'la'} {thing.es}"
    return f"{'los' if thing.plural else 'el'} {thing.es}"
