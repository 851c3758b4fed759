"""Removes what Project Gutenberg adds to a book: markers, licences, credits, transcriber's
notes.

The files follow thirty years of conventions. The text starts after a marker of one or two lines,
in old files after "the small print"; it ends at a marker, or at the sentence "End of the Project
Gutenberg EBook of ...". Credits come first, notes at either end.
"""

import re
from collections.abc import Iterator

from micro_transformer.data.text import Report

EDGE = 8  # paragraphs at either end that may be credits
START = re.compile(
    r"\*\*\*\s?START OF TH[^*]{1,600}?(\*\*\*.*\n|\n\s*\n)|\*\s?END\s?\*?\s?THE SMALL PRINT!.*\n",
    re.IGNORECASE,
)
IN_A_PARAGRAPH = r"(?:[^.\n]|\n(?!\s*\n)){0,60}?"
END = re.compile(
    r"^\W*END OF TH(IS|E) PROJECT GUTENBERG|^\W*START: FULL LICENSE"
    rf"|^\W*(End|Fin)\b{IN_A_PARAGRAPH}\b(Project|Proyecto)\s+Gutenberg",
    re.IGNORECASE | re.MULTILINE,
)
OWN = re.compile(
    r"Project Gutenberg|Distributed Proofread|\bpgdp\.net|\bgutenberg\.(org|net)"
    r"|\bimages (generously )?made available by\b",
    re.IGNORECASE,
)
MADE = "(?i:produced|prepared|transcribed|scanned|digiti[sz]ed|typed|proofread|converted|created)"
HECHO = "(?i:producido|preparado|transcrito|escaneado|digitalizado|revisado)"
CREDIT = re.compile(
    rf"\W*((This|The) )?((?i:e-?text|e-?book|file|text) )?(was )?{MADE}\b[^.]{{0,50}}?\bby:? "
    rf"(the |an )?[A-ZÀ-Ý]|\W*{HECHO}\b[^.]{{0,50}}?\bpor:? ((el|la|los) )?[A-ZÀ-Ý]|\W*Credits:"
)
NOTE = r"(?:Transcriber[’']?s?[’']? notes?|Notas? (?:del? )?(?:la )?transcriptora?)\b"
BRACKETED_NOTE = re.compile(rf"\[\W*{NOTE}[^\]]*\]", re.IGNORECASE)
NOTE_HEADING = re.compile(rf"\W*{NOTE}", re.IGNORECASE)


def story(text: str, report: Report) -> list[str] | None:
    """The paragraphs of the book, each on one line; None if there are no markers."""
    start = START.search(text)
    end = END.search(text, start.end()) if start else None
    if start is None or end is None:
        return None
    body = text[start.end() : end.start()]
    body = body[max((again.end() for again in START.finditer(body)), default=0) :]
    body, brackets = BRACKETED_NOTE.subn("", body)
    paragraphs = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", body)]
    found = list(filter(None, paragraphs))
    kept = list(_without_credits(_without_notes(found)))
    if dropped := brackets + len(found) - len(kept):
        report.note("credits and notes of Project Gutenberg, dropped", 1, dropped)
    return kept


def _without_notes(paragraphs: list[str]) -> list[str]:
    """The paragraphs without notes: a note at the end reaches to the end of the book; one at the
    start is the paragraph that names itself, or the one below such a heading."""
    for i, paragraph in enumerate(paragraphs):
        if NOTE_HEADING.match(paragraph):
            if i >= EDGE:
                return paragraphs[:i]
            length = 1 if len(paragraph) > 40 else 2
            return _without_notes(paragraphs[:i] + paragraphs[i + length :])
    return paragraphs


def _without_credits(paragraphs: list[str]) -> Iterator[str]:
    for i, paragraph in enumerate(paragraphs):
        at_an_edge = i < EDGE or i >= len(paragraphs) - EDGE
        if not OWN.search(paragraph) and not (at_an_edge and CREDIT.match(paragraph)):
            yield paragraph
