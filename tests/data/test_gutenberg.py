"""Of a book of Project Gutenberg the story is left, whole, and nothing else."""

import itertools

import pytest

from micro_transformer.data.corpora.spanish import project_gutenberg
from micro_transformer.data.gutenberg import story
from micro_transformer.data.text import Report

FIRST, SECOND = "Era una vez una casa.\nCon jardín.", "—¿Producido por quién? —dijo Ana."
LAST = "Fin del cuento."
STORY = (FIRST, SECOND, LAST)
KEPT = [FIRST.replace("\n", " "), SECOND, LAST]
STARTS = {
    "this": "*** START OF THIS PROJECT GUTENBERG EBOOK CUENTOS ***",
    "the, no space": "***START OF THE PROJECT GUTENBERG EBOOK CUENTOS***",
    "two lines": "*** START OF THE PROJECT GUTENBERG EBOOK CUENTOS DE AMOR,\nDE LOCURA ***",
    "not closed": "*** START OF THIS PROJECT GUTENBERG EBOOK CUENTOS",
    "small print": "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nlawyers\n"
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
    "small print of 2002": "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
    "marker, then small print": "*** START OF THE PROJECT GUTENBERG EBOOK CUENTOS ***\n\n"
    "***START**THE SMALL PRINT!***\n\nlawyers\n\n*END THE SMALL PRINT! EBOOKS*Ver.10*END*",
}
ENDS = {
    "both": "End of the Project Gutenberg EBook of Cuentos, by Autor Inventado\n\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK CUENTOS ***",
    "marker": "***END OF THE PROJECT GUTENBERG EBOOK CUENTOS***",
    "sentence": "End of Project Gutenberg's Cuentos, by Autor Inventado",
    "sentence of 1999": "End of The Project Gutenberg Etext of Cuentos",
    "on two lines": "End of the Project\nGutenberg EBook of Cuentos, by Autor",
    "in Spanish": "Fin del libro electrónico de Cuentos del Proyecto Gutenberg",
}
CREDITS = {
    "none": "",
    "several lines": "Produced by Nombre Inventado and the Online Distributed\n"
    "Proofreading Team at https://www.pgdp.net",
    "images": "Produced by Ana Pérez, Luis\nand the team.\n\n(This file was produced from images "
    "generously made available by The\nInternet Archive/American Libraries.)",
    "e-text": "E-text prepared by Ana Pérez",
    "this was": "This eBook was produced by Ana Pérez <ana@example.org>.",
    "scanned": "Scanned and proofed by Ana Pérez",
    "Spanish": "Producido por Ana Pérez",
    "note in brackets": "[Transcriber's Note: one\n\nand two]",
    "note": "Transcriber's note: the spelling of 1909 was kept as it was printed.",
    "note below a heading": "NOTAS DEL TRANSCRIPTOR\n\nSe ha respetado la ortografía.",
}


def book(start, credit, end, after="", line="\n", mark=""):
    parts = ["The Project Gutenberg EBook of Cuentos", "Produced by no one", start, credit, *STORY]
    whole = "\n\n\n".join(filter(None, [*parts, after, end, "licence of Project Gutenberg"]))
    return mark + whole.replace("\n", line) + line


@pytest.mark.parametrize("start, end", list(itertools.product(STARTS, ENDS)))
def test_only_the_story_is_left(start, end):
    for credit in CREDITS.values():
        report = Report()
        assert story(book(STARTS[start], credit, ENDS[end]), report) == KEPT
        assert bool(report.counts) == bool(credit)


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_as_a_file(tmp_path, line):
    path = tmp_path / "book.txt"
    after = "Notas del transcriptor:\n\nUna.\n\nDos."
    text = book(STARTS["two lines"], CREDITS["images"], ENDS["both"], line=line, mark="\ufeff")
    path.write_bytes(text.encode())
    assert project_gutenberg(path, Report()) == "".join(f"{line}\n" for line in KEPT)
    long = [f"Párrafo {i}." for i in range(20)]
    text = book(STARTS["this"], "\n\n".join(long), ENDS["both"], after)
    assert story(text, Report()) == [*long, *KEPT]


@pytest.mark.parametrize(
    "line",
    ["Prepared by years of sorrow, he smiled.", "Created by hand, it was dear.", "FIN",
     "Produced by the sun, the shade grew.", "The text was read by all.",
     "The end of the project."],
)  # fmt: skip
def test_the_story_may_speak_so(line):
    for place in range(len(STORY) + 1):
        parts = [*STORY[:place], line, *STORY[place:]]
        text = f"{STARTS['this']}\n\n" + "\n\n".join(parts) + f"\n\n{ENDS['sentence']}\n"
        assert story(text, Report()) == [*KEPT[:place], line, *KEPT[place:]]


@pytest.mark.parametrize("text", ["", "a book", STARTS["this"] + "\n\nno end\n", ENDS["both"]])
def test_without_markers_it_is_no_book_of_theirs(text):
    assert story(text, Report()) is None
