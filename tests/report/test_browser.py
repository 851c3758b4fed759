"""The page in a real browser: it sorts, filters, hovers, and runs nothing that a record says."""

import contextlib
import json
import os
import shutil
import subprocess

import pytest

from micro_transformer.report.write import write_report
from tests.made_records import make_sweep, write_all
from tests.report.test_report import hostile_sweep, payloads

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: apt-get install chromium to check the page"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """A page in Chromium, driven over the debugging pipe (file descriptors 3 and 4)."""

    def __init__(self, path, profile, width=1280):
        down, self.out = os.pipe()
        self.inp, up = os.pipe()
        wiring = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        words = ["bash", "-c", wiring, str(down), str(up), CHROMIUM, *FLAGS,
                 f"--user-data-dir={profile}", f"--window-size={width},900"]  # fmt: skip
        self.process = subprocess.Popen(
            words, pass_fds=(down, up), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(down)
        os.close(up)
        self.count, self.rest, self.events = 0, b"", []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable", self.session)
        self.ask("Page.navigate", self.session, url=path.as_uri())
        while not self.js("document.readyState === 'complete' && location.protocol === 'file:'"):
            pass

    def ask(self, method, session=None, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        os.write(
            self.out,
            json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0",
        )
        while True:
            while b"\0" not in self.rest:
                data = os.read(self.inp, 1 << 16)
                assert data, "chromium ended"
                self.rest += data
            text, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.count:
                return answer["result"]
            self.events.append(answer)

    def js(self, expression):
        answer = self.ask(
            "Runtime.evaluate", self.session, expression=expression, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.inp)
        os.close(self.out)


@contextlib.contextmanager
def opened(folder, records, profile):
    write_report(write_all(records, folder), mix=True, figures=False)
    page = Page(folder / "report.html", profile)
    try:
        yield page
    finally:
        page.close()


def faults(page):
    """Errors of scripts, refusals of the content policy, requests that left the page."""
    found = [
        e for e in page.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    asked = [e["params"]["request"]["url"] for e in page.events
             if e.get("method") == "Network.requestWillBeSent"]  # fmt: skip
    return found, [url for url in asked if not url.startswith(("file:", "data:"))]


# 2 x 8 configurations and 3 seeds: 48 records; 4 x 4 x 7 x 6 and 3 seeds: 2,016 records.
SIZES = {
    50: {"posenc": ["rope", "alibi"], "cache": [f"c{i}" for i in range(8)]},
    2000: {
        "posenc": ["rope", "alibi", "none", "learned"],
        "ffn": list("abcd"),
        "model": [f"{i}m" for i in range(7)],
        "cache": [f"c{i}" for i in range(6)],
    },
}


@pytest.mark.parametrize("size", SIZES)
def test_it_sorts_filters_and_hovers(size, tmp_path):
    records = make_sweep(SIZES[size], effects={("posenc", "alibi"): 0.1})
    with opened(tmp_path / "x", records, tmp_path / "profile") as page:
        rows = "[...document.querySelector('.sheet tbody').rows]"
        column = f"{rows}.map(r => Number(r.cells[1].dataset.sort))"
        page.js("document.querySelectorAll('.sheet th')[1].click()")
        up = page.js(column)
        page.js("document.querySelectorAll('.sheet th')[1].click()")
        down = page.js(column)
        assert up == sorted(up) and down == sorted(down, reverse=True) and up != down
        page.js("{const i = document.querySelector('.sheet input'); i.value = 'alibi cache=c3';"
                "i.dispatchEvent(new Event('input'))}")  # fmt: skip
        shown = f"{rows}.filter(r => !r.hidden)"
        names = page.js(f"{shown}.map(r => r.cells[0].textContent)")
        assert names and all("alibi" in name and "cache=c3" in name for name in names)
        page.js("document.querySelector('.point').dispatchEvent(new Event('pointerenter'))")
        tip = page.js("document.querySelector('.tip:not([hidden])').textContent")
        assert tip.startswith("posenc=") and "PPL" in tip and "n = 3" in tip
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
        assert faults(page) == ([], [])


def test_nothing_that_a_record_says_is_run(tmp_path):
    """A hundred payloads. An alert would stop the page; handlers and elements would be found."""
    with opened(tmp_path / "x", hostile_sweep(payloads()[::5]), tmp_path / "profile") as page:
        page.js(
            "document.querySelectorAll('.point').forEach(p => p.dispatchEvent(new Event('focus')))"
        )
        page.js("document.querySelectorAll('.point')[0].dispatchEvent(new Event('click'))")
        assert page.js("document.scripts.length") == 1
        found = page.js(
            "[...document.querySelectorAll('*')].flatMap(n => n.getAttributeNames())"
            ".filter(a => a.startsWith('on')).length"
        )
        assert found == 0
        assert not [e for e in page.events if e.get("method") == "Page.javascriptDialogOpening"]
        assert faults(page) == ([], [])
