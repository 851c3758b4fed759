"""The words of the tiny stories, each in English and Spanish."""

from typing import NamedTuple

FEMININE, MASCULINE = "feminine", "masculine"


class Person(NamedTuple):
    """A name that reads the same in both languages."""

    name: str
    gender: str


class Phrase(NamedTuple):
    """Words that never change their form."""

    en: str
    es: str


class Thing(NamedTuple):
    """A noun; gender as in Spanish, number in both languages."""

    en: str
    es: str
    gender: str
    plural: bool = False


class Adjective(NamedTuple):
    """Spanish has up to four forms: masculine, feminine, and their plurals."""

    en: str
    forms: tuple[str, str, str, str]

    def es(self, gender: str, plural: bool = False) -> str:
        """The form that agrees."""
        return self.forms[(gender == FEMININE) + 2 * plural]


class Relation(NamedTuple):
    """What a friend is to the hero."""

    en: tuple[str, str]  # for a man, for a woman
    es: tuple[str, str]


class Ending(NamedTuple):
    """How the story turns out; the sentiment is the story's label."""

    en: str
    es: str
    sentiment: int  # 1 good, 0 bad


def _o(en: str, stem: str) -> Adjective:
    return Adjective(en, (stem + "o", stem + "a", stem + "os", stem + "as"))


def _same(en: str, singular: str, plural: str) -> Adjective:
    return Adjective(en, (singular, singular, plural, plural))


WOMEN = ("Ana", "Carmen", "Elena", "Julia", "Lucía", "Marta", "Rosa", "Sara")
MEN = ("Daniel", "Diego", "Hugo", "Luis", "Mario", "Pablo", "Pedro", "Tomás")
PEOPLE = [
    *(Person(name, FEMININE) for name in WOMEN),
    *(Person(name, MASCULINE) for name in MEN),
]
HOMES = [
    Phrase("in a small house near the river", "en una casa pequeña cerca del río"),
    Phrase("in a quiet village in the mountains", "en un pueblo tranquilo en las montañas"),
    Phrase("on a farm with many animals", "en una granja con muchos animales"),
    Phrase("in a white house by the sea", "en una casa blanca junto al mar"),
    Phrase("above the bakery", "encima de la panadería"),
    Phrase("in the old mill", "en el viejo molino"),
    Phrase("next to the school", "al lado de la escuela"),
    Phrase("at the edge of the forest", "al borde del bosque"),
]
HOBBIES = [
    Phrase("to sing", "cantar"),
    Phrase("to read old books", "leer libros viejos"),
    Phrase("to watch the birds", "mirar los pájaros"),
    Phrase("to cook soup", "cocinar sopa"),
    Phrase("to draw trees", "dibujar árboles"),
    Phrase("to walk in the rain", "caminar bajo la lluvia"),
    Phrase("to count the stars", "contar las estrellas"),
    Phrase("to play the guitar", "tocar la guitarra"),
]
WEATHER = [
    Phrase("It was very cold.", "Hacía mucho frío."),
    Phrase("The sky was clear.", "El cielo estaba despejado."),
    Phrase("A soft rain was falling.", "Caía una lluvia suave."),
    Phrase("The wind was blowing hard.", "El viento soplaba con fuerza."),
    Phrase("The streets were empty.", "Las calles estaban vacías."),
    Phrase("Snow covered the roofs.", "La nieve cubría los tejados."),
    Phrase("The bells were ringing.", "Sonaban las campanas."),
    Phrase("The sun was shining.", "Brillaba el sol."),
]
TIMES = [
    Phrase("One morning", "Una mañana"),
    Phrase("One afternoon", "Una tarde"),
    Phrase("One Sunday", "Un domingo"),
    Phrase("One day in spring", "Un día de primavera"),
    Phrase("After lunch", "Después de comer"),
    Phrase("On the way to school", "De camino a la escuela"),
]
THINGS = [
    Thing("bicycle", "bicicleta", FEMININE),
    Thing("boat", "barco", MASCULINE),
    Thing("book", "libro", MASCULINE),
    Thing("box", "caja", FEMININE),
    Thing("drum", "tambor", MASCULINE),
    Thing("hat", "sombrero", MASCULINE),
    Thing("key", "llave", FEMININE),
    Thing("kite", "cometa", FEMININE),
    Thing("lamp", "lámpara", FEMININE),
    Thing("map", "mapa", MASCULINE),
    Thing("umbrella", "paraguas", MASCULINE),
    Thing("boots", "botas", FEMININE, plural=True),
    Thing("coins", "monedas", FEMININE, plural=True),
    Thing("glasses", "gafas", FEMININE, plural=True),
    Thing("gloves", "guantes", MASCULINE, plural=True),
    Thing("shoes", "zapatos", MASCULINE, plural=True),
]
COLOURS = [
    _o("black", "negr"),
    _o("purple", "morad"),
    _o("red", "roj"),
    _o("white", "blanc"),
    _o("yellow", "amarill"),
    _same("blue", "azul", "azules"),
    _same("green", "verde", "verdes"),
    _same("grey", "gris", "grises"),
]
PLACES = [
    Phrase("at the market", "en el mercado"),
    Phrase("behind the church", "detrás de la iglesia"),
    Phrase("behind the station", "detrás de la estación"),
    Phrase("beside the road", "al lado del camino"),
    Phrase("in front of the library", "delante de la biblioteca"),
    Phrase("in the garden", "en el jardín"),
    Phrase("in the park", "en el parque"),
    Phrase("near the fountain", "cerca de la fuente"),
    Phrase("on the beach", "en la playa"),
    Phrase("under the old bridge", "debajo del viejo puente"),
]
SPOTS = [
    Phrase("behind the door", "detrás de la puerta"),
    Phrase("by the window", "junto a la ventana"),
    Phrase("in the basket", "en la cesta"),
    Phrase("in the drawer", "en el cajón"),
    Phrase("inside the wardrobe", "dentro del armario"),
    Phrase("on the shelf", "en el estante"),
    Phrase("on the table", "sobre la mesa"),
    Phrase("under the bed", "debajo de la cama"),
]
RELATIONS = [
    Relation(("friend", "friend"), ("amigo", "amiga")),
    Relation(("neighbour", "neighbour"), ("vecino", "vecina")),
    Relation(("cousin", "cousin"), ("primo", "prima")),
    Relation(("brother", "sister"), ("hermano", "hermana")),
    Relation(("teacher", "teacher"), ("maestro", "maestra")),
]
ENDINGS = [
    Ending("everybody danced in the square", "todos bailaron en la plaza", 1),
    Ending("the whole family sang", "la familia entera cantó", 1),
    Ending("the soup was delicious", "la sopa estaba deliciosa", 1),
    Ending("a kind man gave them a cake", "un hombre amable les regaló un pastel", 1),
    Ending("the rain stopped just in time", "la lluvia paró justo a tiempo", 1),
    Ending("their team won the game", "su equipo ganó el partido", 1),
    Ending("the storm broke the windows", "la tormenta rompió las ventanas", 0),
    Ending("nobody came to the party", "nadie vino a la fiesta", 0),
    Ending("the dinner was cold", "la cena estaba fría", 0),
    Ending("a rude man shouted at them", "un hombre grosero les gritó", 0),
    Ending("the last bus never came", "el último autobús no llegó nunca", 0),
    Ending("their team lost the game", "su equipo perdió el partido", 0),
]
# One row per sentiment, of equal length, so that the choice has the same entropy in both.
FEELINGS = [
    (  # bad
        _o("angry", "enfadad"),
        _o("lonely", "sol"),
        _o("tired", "cansad"),
        _o("worried", "preocupad"),
        _same("sad", "triste", "tristes"),
    ),
    (  # good
        _o("calm", "tranquil"),
        _o("excited", "ilusionad"),
        _o("happy", "content"),
        _o("proud", "orgullos"),
        _same("cheerful", "alegre", "alegres"),
    ),
]
