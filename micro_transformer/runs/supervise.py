"""Runs a function in a child process, so that a crash cannot end the sweep or affect other jobs.

Children are forked from a server process that has imported torch but not used it: the import time
is paid once, and each child starts with a fresh allocator, thread pool and random state.
"""

import ctypes
import faulthandler
import gc
import importlib
import multiprocessing
import multiprocessing.forkserver as forkserver
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any

from micro_transformer import console, stop
from micro_transformer.stop import COMMAND, Interrupted

GRACE_S = 10.0
STACK_S = 0.5
PRELOADED = ["torch", "torch._dynamo", "numpy", "safetensors.torch", "filelock", "tqdm"]
PRELOADED += ["omegaconf", "tokenizers", "tabulate"]
PR_SET_PDEATHSIG = 1
LONGEST_TMPDIR = 60  # bytes; the path of a Unix socket may have at most 107
SHORT_TMPDIRS = ("/tmp", "/var/tmp", "/dev/shm")
_ONE_BY_ONE = threading.Lock()  # starting a child also reaps finished ones: not thread-safe


@dataclass(frozen=True)
class Outcome:
    """Result of a child: `status` as in a record, with the return value or the error text."""

    status: str
    value: Any = None
    error: str | None = None
    exit_code: int = 1  # of a command with this single job
    flags: tuple[str, ...] = ()  # added to the record's flags


def _context() -> Any:
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        # a launcher's worker sets a start method of its own, which our children would inherit
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    _bear_sockets()
    return context


def _bear_sockets() -> None:
    """multiprocessing's temporary folder has a path short enough for a Unix socket."""
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR:
        return
    before = tempfile.tempdir
    short = (folder for folder in SHORT_TMPDIRS if os.access(folder, os.W_OK | os.X_OK))
    try:
        tempfile.tempdir = next(short, before)
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before


def warm_up() -> None:
    """The fork server has been started and imports torch in the background."""
    _context()
    with stop.held_back():
        resource_tracker.ensure_running()  # unblocks some signals again when it starts
        with stop.held_back():  # so that a signal to the process group does not end the server
            forkserver.ensure_running()


def run(
    work: str,
    *args: Any,
    log: Path,
    timeout_s: float | None = None,
    output: Path | None = None,
) -> Outcome:
    """Outcome of work(*args), run in a child process; the caller survives any death of the child.

    work: `module:function`, imported only in the child. log: file for the child's tracebacks.
    timeout_s: wall seconds before the child is ended. output: file for the child's stdout and
    stderr; None: those of the caller.

    Status: `ok`; `oom` for out of memory; the `status` attribute of the exception, if it has one;
    `timeout`; `interrupted` by a stop request; `killed` by a signal; else `failed`.
    """
    if COMMAND.number is not None:
        return _interrupted(COMMAND.number)
    warm_up()
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, work, args, log, output))
    with _ONE_BY_ONE:
        child.start()
    sender.close()
    try:
        with COMMAND.tells(lambda _: child.terminate()):
            message = _receive(receiver, child, timeout_s)
            _join(child)
    except BaseException:  # a launcher aborts its worker (Slurm reclaims the machine)
        _stop(child)
        raise
    if COMMAND.number is not None and (message is None or message.status != "ok"):
        return _interrupted(COMMAND.number)
    return message or _post_mortem(child.exitcode)


def _interrupted(number: int) -> Outcome:
    return Outcome("interrupted", error=f"stopped by {signal.Signals(number).name}")


def _join(child: Any) -> None:
    """The child has ended and been joined, under a lock: only one thread can read its exit code."""
    connection.wait([child.sentinel])
    with _ONE_BY_ONE:
        child.join()


def _receive(receiver: Any, child: Any, timeout_s: float | None) -> Outcome | None:
    """The child's outcome, or None if it died without sending one. A child that exceeds timeout_s
    is ended after it has written its stack to the log."""
    try:
        if not receiver.poll(timeout_s):
            os.kill(child.pid, signal.SIGUSR1)  # the child writes its stack to the log
            receiver.poll(STACK_S)
            child.terminate()
            if not receiver.poll(GRACE_S):
                child.kill()
            return Outcome(
                "timeout", error=f"still running after {timeout_s:g} s; its stack is in the log"
            )
        return receiver.recv()
    except EOFError:
        return None


def _stop(child: Any) -> None:
    """The child has ended: by SIGTERM, or by SIGKILL after GRACE_S seconds."""
    child.terminate()
    child.join(GRACE_S)
    child.kill()


def _post_mortem(code: int | None) -> Outcome:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return Outcome("killed", error=f"ended by {name}{hint}")
    return Outcome("failed", error=f"the job called exit({code})")


def _child(sender: Any, work: str, args: tuple, log: Path, output: Path | None) -> None:
    _die_with_parent()
    gc.freeze()  # a collection would touch, and so copy, every page of the imports: 0.2 s
    for number in stop.signals():  # the command forwards any signal to the child as SIGTERM
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop.signals())
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        if output is not None:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
        console.settle()
        faulthandler.enable(file)
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)
        try:
            sender.send(Outcome("ok", _named(work)(*args)))
        except Interrupted as end:
            sender.send(Outcome("interrupted", error=f"stopped by {end}"))
        except Exception as error:
            file.write(traceback.format_exc())
            sender.send(failure(error))
        faulthandler.disable()
    sender.close()
    sys.stdout.flush()


def failure(error: Exception) -> Outcome:
    """The outcome of work that raised `error`."""
    code = getattr(error, "exit_code", 1)
    flags = getattr(error, "flags", ())
    return Outcome(_status_of(error), error=_one_line(error), exit_code=code, flags=flags)


def _named(work: str) -> Callable[..., Any]:
    module, function = work.split(":")
    return getattr(importlib.import_module(module), function)


def _status_of(error: Exception) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "oom"
    return getattr(error, "status", "failed")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    known = isinstance(error, ValueError) or hasattr(error, "status")
    return text if known else f"{type(error).__name__}: {text}"


def _die_with_parent() -> None:
    """This process is killed as soon as the command or the fork server dies, so that none is left
    orphaned. Watching the server is not enough: it outlives the command, since children inherit
    its pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    command = multiprocessing.parent_process()
    if command is not None:
        threading.Thread(target=_watch, args=(command.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
