"""Every official address, played by a server on this machine that serves a replica, cuts it, lies
or shows a page.
"""

import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora import tatoeba
from micro_transformer.data.corpora.catalog import catalog
from micro_transformer.data.corpora.shakespeare import PLAYS
from micro_transformer.data.prepared_dataset import DataMissing
from micro_transformer.data.sources import fetching


def zipped(**members):
    """A zip in memory; `__` in a name is a slash, `_dot_` a dot."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return held.getvalue()


def play():
    """As many lines as TinyShakespeare, so that its plays start where they start."""
    return "".join(f"SPEAKER {i}:\nLine {i}.\n\n" for i in range(PLAYS[-1][0] // 3 + 500)).encode()


def book(title):
    body = "\n\n".join(
        f"Párrafo número {i} de {title}, que sigue\nen otra línea." for i in range(4000)
    )
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK ***", "*** END OF THE PROJECT GUTENBERG"
    return f"\ufeff{title}\r\n{start}\r\n\r\n{body}\r\n{end} EBOOK ***\r\nlicence".encode()


NUMBERS = [
    f"{a} {b} {c}" for a in ("uno", "dos", "tres") for b in ("rojo", "azul") for c in range(200)
]
PAIRS = [(f"The {n}.", f"El {n}.") for n in NUMBERS]
REVIEWS = "".join(
    f"a {'good' if i % 2 else 'bad'} film with {n} scenes \t{i % 2}\n"
    for i, n in enumerate(NUMBERS)
)
SPA = "".join(f"{en}\t{es}\n" for en, es in PAIRS).encode()
SPA_MEMBER = ("spa-eng/spa.txt", len(SPA), hashlib.sha256(SPA).hexdigest())
REPLICAS = {
    "tinyshakespeare.txt": play(),
    "gutenberg-55514.txt": book("Cuentos de amor"),
    "gutenberg-13507.txt": book("Cuentos de Amor de Locura y de Muerte"),
    "gutenberg-46196.txt": book("Cuentos Clásicos del Norte"),
    "gutenberg-46496.txt": book("Cuentos Clásicos del Norte, otros"),
    "gutenberg-17073.txt": book("La Regenta"),
    "spa-eng.zip": zipped(**{"spa-eng__spa_dot_txt": SPA}),
    "opus-tatoeba-en-es.zip": zipped(
        **{
            "Tatoeba_dot_en-es_dot_en": "".join(f"{en}\n" for en, _ in PAIRS),
            "Tatoeba_dot_en-es_dot_es": "".join(f"{es}\n" for _, es in PAIRS),
        }
    ),
    "SST-2.zip": zipped(
        **{
            "SST-2__train_dot_tsv": "sentence\tlabel\n" + REVIEWS,
            "SST-2__dev_dot_tsv": "sentence\tlabel\n"
            + "".join(f"held out {i} times \t{i % 2}\n" for i in range(50)),
        }
    ),
}
ORIGINS = [
    (name, i)
    for name, cls in catalog().items()
    for i, o in enumerate(cls().origins())
    if o.tier == "url"
]
IDS = [f"{name}-{catalog()[name]().origins()[i].sources[0].name}" for name, i in ORIGINS]


class Server(BaseHTTPRequestHandler):
    """/good/NAME serves the replica; /cut, /lie and /page do what they say."""

    def do_GET(self):  # noqa: N802
        _, way, name = self.path.split("/")
        data = REPLICAS[name]
        body = {
            "good": data,
            "cut": data[: len(data) // 2],
            "lie": data[: len(data) // 2]
            + bytes([data[len(data) // 2] ^ 1])
            + data[len(data) // 2 + 1 :],
            "page": b"<!DOCTYPE html><html>Too many requests</html>",
        }[way]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data if way == "cut" else body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def served(monkeypatch, name, index, base):
    """The corpus with one origin: at another address, with the replica's hash."""
    cls = catalog()[name]
    origin = cls().origins()[index]

    def moved(source):
        data = REPLICAS[source.name]
        there = replace(source, url=f"{base}/{source.name}", size=len(data), schemes=("http",))
        if source.member:
            return replace(there, member=SPA_MEMBER)
        return replace(there, sha256=hashlib.sha256(data).hexdigest()) if source.sha256 else there

    there = replace(origin, sources=tuple(map(moved, origin.sources)))
    monkeypatch.setattr(cls, "origins", lambda self: [there])
    monkeypatch.setattr(tatoeba, "MEMBER", SPA_MEMBER)
    return cls()


@pytest.mark.parametrize("name, index", ORIGINS, ids=IDS)
def test_the_official_address_is_read(monkeypatch, tmp_path, address, name, index):
    corpus = served(monkeypatch, name, index, f"{address}/good")
    data = prepare(corpus, tmp_path, fetching)
    assert data.record["tier"] == "url" and data.record["rows"] > 100
    assert all(source["sha256"] for source in data.manifest["sources"])
    first = data.tokenizer.decode(
        data.row("train", 0, next(iter(data.splits["train"]["columns"]))).tolist()
    )
    assert "licence" not in first and "START OF" not in first


@pytest.mark.parametrize("way", ["cut", "lie", "page"])
@pytest.mark.parametrize("name, index", ORIGINS, ids=IDS)
def test_what_is_not_the_file_is_refused(monkeypatch, tmp_path, address, name, index, way):
    """Where the publisher edits the file, no hash can be listed and a flipped bit is not seen."""
    corpus = served(monkeypatch, name, index, f"{address}/{way}")
    first = corpus.origins()[0].sources[0]
    if way == "lie" and first.mark:
        pytest.skip("no hash can be listed for files that Project Gutenberg edits")
    with pytest.raises(DataMissing, match=f"no source for task={name}") as failure:
        prepare(corpus, tmp_path, fetching)
    assert "\n" not in str(failure.value)
    assert not [p for p in (tmp_path / "prepared").iterdir() if not p.name.endswith(".lock")]
    assert not (tmp_path / "raw" / first.name).exists()  # so that the next try asks again
