"""Progress display of long work: a bar on a terminal; in other output (a file, a pipe, a log) a
plain line every EVERY_S seconds.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from micro_transformer.wording import _, translated

FIRST_S, EVERY_S, BAR_S = 1.0, 5.0, 0.2


class Display:
    """Progress of a task: `done` of `total` units, with the latest figures to display."""

    def __init__(self, unit: str, total: int, done: int = 0):
        self.unit, self.total, self.done = unit, total, done
        self.figures: dict[str, float] = {}
        self.name: str | None = None  # of the current unit
        self._before, self._started = done, time.monotonic()

    def begin(self, name: str) -> None:
        """The current unit has this name."""
        self.name = name

    def advance(self, **figures: float) -> None:
        """One more unit is done; figures not given keep their last value."""
        self.done, self.name, self.figures = self.done + 1, None, self.figures | figures

    def line(self) -> str:
        """`step 9 of 280, train/loss 2.345, 40 s left`; `measure 2 of 3, decoding, after 12 s`."""
        spent, here = time.monotonic() - self._started, self.done - self._before
        if self.name is not None:  # named units differ in length: no estimate of the time left
            count = self._count(self.done + 1)
            return _("{count}, {name}, after {s} s", count=count, name=self.name, s=f"{spent:.0f}")
        parts = [self._count(self.done)]
        parts += [f"{name} {value:.3f}" for name, value in self.figures.items()]
        if here:
            parts.append(_("{s} s left", s=f"{spent / here * (self.total - self.done):.0f}"))
        return ", ".join(parts)

    def _count(self, done: int) -> str:
        return _(
            "{unit} {done} of {total}", unit=translated(self.unit), done=done, total=self.total
        )


@contextmanager
def shown(display: Display, *, is_quiet: bool = False) -> Iterator[Display]:
    """Context manager that shows the display while work runs. is_quiet: show nothing."""
    over = threading.Event()
    ways = [_bar] * is_terminal(sys.stderr) + [_lines] * (not is_terminal(sys.stdout))
    threads = [threading.Thread(target=way, args=(display, over), daemon=True) for way in ways]
    for thread in threads * (not is_quiet):
        thread.start()
    try:
        yield display
    finally:
        over.set()
        for thread in threads * (not is_quiet):
            thread.join()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal."""
    return stream is not None and stream.isatty()


def _bar(display: Display, over: threading.Event) -> None:
    from tqdm import tqdm

    with tqdm(total=display.total, initial=display.done, unit=display.unit) as bar:
        while True:
            is_over = over.wait(BAR_S)
            bar.set_postfix_str(display.line().partition(", ")[2], refresh=False)
            bar.n = display.done
            bar.refresh()
            if is_over:
                return


def _lines(display: Display, over: threading.Event) -> None:
    pause = FIRST_S
    try:
        while not over.wait(pause):
            print(display.line(), flush=True)
            pause = EVERY_S
    except BrokenPipeError:  # a reader that stops early (`| head`) is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
