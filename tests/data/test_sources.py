"""Downloads from a server that cuts, lies and serves pages; packages from a folder; archives that
mean harm.
"""

import gzip
import hashlib
import io
import random
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from micro_transformer.data import sources, transfer
from micro_transformer.data.archives import tar_member, unzip_member, zip_member
from micro_transformer.data.sources import Download, Folder, Package, Unavailable, fetching, locally

DATA = random.Random(0).randbytes(100_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Each path is a way to go wrong."""

    def do_GET(self):  # noqa: N802
        action, _, rest = self.path.strip("/").partition("/")
        getattr(self, action)(rest)

    def answer(self, body, length=None, status=200, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def good(self, rest):
        self.answer(DATA)

    def cut(self, rest):
        self.answer(DATA[: int(rest)], length=len(DATA))

    def short(self, rest):
        self.answer(DATA[: int(rest)])

    def lie(self, rest):
        self.answer(DATA[:-1] + bytes([DATA[-1] ^ 1]))

    def page(self, rest):
        self.answer(b"\n<!DOCTYPE html><html><body>Please log in</body></html>")

    def endless(self, rest):
        self.answer(DATA + b"more")

    def gone(self, rest):
        self.answer(b"no", status=404)

    def away(self, rest):
        self.answer(b"", status=302, headers=[("Location", "https://127.0.0.1:1/good")])

    def moved(self, rest):
        self.answer(b"", status=302, headers=[("Location", "/good")])

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


def source(url):
    return Download(url, "data.bin", len(DATA), SHA256, schemes=("http",))


@pytest.mark.parametrize("path", ["good", "moved"])
def test_a_good_file_is_fetched_once_and_kept(tmp_path, address, path):
    path = source(f"{address}/{path}").fetch(tmp_path)
    assert path.read_bytes() == DATA and [p.name for p in tmp_path.iterdir()] == ["data.bin"]
    assert source("http://127.0.0.1:1/nobody").fetch(tmp_path) == path  # no server needed again


REFUSED = {
    "cut/5000": "a broken one|5000 of 100000 bytes",
    "short/5000": ": 5000 of 100000 bytes: sha256 .* expected " + SHA256,
    "lie": "sha256 .* expected " + SHA256,
    "page": "an HTML page, not data",
    "endless": "more than the expected 100000 bytes",
    "gone": "404",
    "away": "https://127.0.0.1:1/good: refused; only http",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_not_the_listed_file_is_refused_and_stays_apart(tmp_path, address, path):
    with pytest.raises(Unavailable, match=REFUSED[path]) as failure:
        source(f"{address}/{path}").fetch(tmp_path)
    assert "\n" not in str(failure.value)
    assert {p.name for p in tmp_path.iterdir()} <= {"data.bin.part"}
    assert all(p.stat().st_size <= len(DATA) for p in tmp_path.iterdir())  # stopped at the limit
    assert (
        source(f"{address}/good").fetch(tmp_path).read_bytes() == DATA
    )  # and the next try succeeds


def test_no_cut_passes_for_the_whole(tmp_path, address):
    for place in random.Random(1).sample(range(len(DATA)), 60):
        kind = random.Random(place).choice(["cut", "short"])
        with pytest.raises(Unavailable):
            source(f"{address}/{kind}/{place}").fetch(tmp_path)
        assert not (tmp_path / "data.bin").exists()


def test_only_https_unless_a_test_says_so(tmp_path, address):
    with pytest.raises(Unavailable, match="http://.*: refused; only https"):
        Download(f"{address}/good", "data.bin", len(DATA), SHA256).fetch(tmp_path)


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(Unavailable, match="no connection"):
        source("http://127.0.0.1:1/good").fetch(tmp_path)


def test_nothing_is_downloaded_unless_fetching(tmp_path, address, monkeypatch):
    monkeypatch.setattr(transfer, "download", lambda *_: pytest.fail("a download"))
    monkeypatch.setattr(transfer, "pip_download", lambda *_: pytest.fail("a download"))
    for wanted in (source(f"{address}/good"), package(tmp_path)):
        with pytest.raises(Unavailable, match="not fetched yet"):
            locally(wanted, tmp_path)


def test_a_file_without_a_hash_must_hold_its_mark(tmp_path, address):
    wrong = Download(
        f"{address}/page", "book.txt", 9_999, None, mark="La Regenta", schemes=("http",)
    )
    with pytest.raises(Unavailable, match="does not contain 'La Regenta'"):
        wrong.fetch(tmp_path)
    right = Download(f"{address}/page", "book.txt", 9_999, None, mark="log in", schemes=("http",))
    assert right.fetch(tmp_path).name == "book.txt"


def package(folder, **changes):
    """A wheel of our own in a folder, as pip finds it there."""
    wheel = folder / "index" / "tinytext-1.0-py3-none-any.whl"
    wheel.parent.mkdir(exist_ok=True)
    if not wheel.exists():
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tinytext/plays.txt", "to be")
            info = "Metadata-Version: 2.1\nName: tinytext\nVersion: 1.0\n"
            archive.writestr("tinytext-1.0.dist-info/METADATA", info)
            archive.writestr(
                "tinytext-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"
            )
            archive.writestr("tinytext-1.0.dist-info/RECORD", "")
    facts = {
        "name": wheel.name,
        "size": wheel.stat().st_size,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "options": ("--no-index", "--find-links", str(wheel.parent)),
    } | changes
    return Package("tinytext", "1.0", **facts)


def test_a_package_is_downloaded_and_not_installed(tmp_path):
    path = fetching(package(tmp_path), tmp_path / "raw")
    assert zip_member(path, "tinytext/plays.txt", 100) == b"to be"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(ImportError):
        __import__("tinytext")


def test_another_package_than_listed_is_refused(tmp_path):
    with pytest.raises(Unavailable, match="expected 0000"):
        package(tmp_path, sha256="0000").fetch(tmp_path / "raw")
    assert not (tmp_path / "raw" / "tinytext-1.0-py3-none-any.whl").exists()


def test_a_package_that_does_not_exist_says_so(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Unavailable, match="pip download tinytext==1.0: .*No matching distribution"):
        package(tmp_path, options=("--no-index", "--find-links", str(empty))).fetch(
            tmp_path / "raw"
        )


def test_the_folder_of_the_user(tmp_path, monkeypatch):
    wanted = Folder("set/data.txt", len(DATA), SHA256)
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)
    with pytest.raises(Unavailable, match="MT_DATA is not set"):
        wanted.local(tmp_path)
    monkeypatch.setenv(sources.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(Unavailable, match="missing"):
        wanted.local(tmp_path)
    (tmp_path / "set").mkdir()
    packed = tmp_path / "set" / "data.txt.gz"
    packed.write_bytes(gzip.compress(DATA))
    assert wanted.local(tmp_path) == packed
    packed.write_bytes(gzip.compress(DATA)[:5000])
    with pytest.raises(Unavailable, match="damaged"):
        wanted.local(tmp_path)
    packed.write_bytes(gzip.compress(b"0" * 50_000_000))  # unpacks to more than the list says
    with pytest.raises(Unavailable, match="more than the expected 100000 bytes"):
        wanted.local(tmp_path)


def hostile_zip(path, name="a.txt", data=b"x" * 1000):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return path


def test_archives_cannot_write_or_grow(tmp_path):
    bomb = hostile_zip(tmp_path / "bomb.zip", data=b"0" * 10_000_000)
    for call in (zip_member, unzip_member):
        arguments = (tmp_path / "out",) if call is unzip_member else ()
        with pytest.raises(Unavailable, match="larger than 1000 bytes"):
            call(bomb, "a.txt", 1000, *arguments)
    climbing = hostile_zip(tmp_path / "climb.zip", name="../../climbed.txt")
    assert zip_member(climbing, "../../climbed.txt", 1000) == b"x" * 1000  # read, never unpacked
    assert not (tmp_path.parent.parent / "climbed.txt").exists()
    with pytest.raises(Unavailable, match="another content"):
        zip_member(climbing, "a.txt", 1000)


def test_a_link_in_a_tar_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, kind in (("soft", tarfile.SYMTYPE), ("dir", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    for name in ("soft", "dir"):
        with pytest.raises(Unavailable):
            tar_member(held.getvalue(), name, 1000)


def test_a_broken_archive_is_named(tmp_path):
    path = hostile_zip(tmp_path / "good.zip")
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(500):
        at = rng.randrange(len(whole))
        broken = (
            whole[:at] if rng.random() < 0.5 else whole[:at] + rng.randbytes(1) + whole[at + 1 :]
        )
        path.write_bytes(broken)
        try:
            assert zip_member(path, "a.txt", 1000) == b"x" * 1000
        except Unavailable as error:
            assert "good.zip" in str(error)
