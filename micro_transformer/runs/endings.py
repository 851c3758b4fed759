"""Writes a finished job's record and curve to its folder, and logs its result in one line."""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from micro_transformer import disk
from micro_transformer.records import record_files, run_record
from micro_transformer.records.run_record import SAMPLE_MARK, SAMPLES, RunRecord

log = logging.getLogger("micro_transformer.runs.run_job")
LOG = "run.log"


def write(record: RunRecord, folder: Path, history: Sequence[dict[str, Any]] = ()) -> int:
    """The record and its curve are written to the folder, or a failed record that gives the reason.
    Returns 0, or exit code BAD_IO when the disk refuses the write."""
    try:
        if history:
            lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in history)
            disk.write_file(folder / record_files.HISTORY, lines.encode())
        record_files.write(record, folder)
    except OSError as error:
        record.status, record.error = (
            run_record.FAILED,
            f"no record: {disk.in_words(error, folder)}",
        )
        return disk.BAD_IO
    except Exception as error:  # a value that a record cannot store: only this job fails
        record.status = run_record.FAILED
        record.error = f"its record cannot be written: {error}"
        with suppress(OSError):
            record_files.write(record_files.cut_down(record, record.error), folder)
    return 0


def tell(folder: Path, record: RunRecord) -> None:
    """The job's result is logged in one line: level info if ok or invalid, else error."""
    if record.status in (run_record.OK, run_record.INVALID):
        log.info("%s: %s", folder.name, _line(record))
    else:
        log.error("%s: %s (log: %s)", folder.name, _line(record), folder / LOG)


def _line(record: RunRecord) -> str:
    if record.status != run_record.OK:
        return f"{record.status}: {record.error}"
    shown = {"val/loss": "{:.4f} nats", "val/ppl": "PPL {:.3f}"}
    shown |= {"val/bleu": "BLEU {:.1f}"}
    shown |= {"val/accuracy": "accuracy {:.3f}", "val/f1_macro": "macro-F1 {:.3f}"}
    costs = {"decode/tokens_per_s": "{:.0f} tokens/s", "train/ms_per_batch": "{:.0f} ms/batch"}
    costs |= {"encode/sentences_per_s": "{:.0f} sentences/s"}
    parts = [text.format(record.metrics[k]) for k, text in shown.items() if k in record.metrics]
    parts += [text.format(record.cost[k]) for k, text in costs.items() if record.cost.get(k)]
    return ", ".join([*parts, *record.flags]) or run_record.OK


def show_samples(folder: Path, count: int) -> None:
    """The job's first `count` text samples are printed, if its evaluation wrote any."""
    path = folder / SAMPLES
    try:
        text = disk.read_bytes(path).decode("utf-8", "replace")
    except (OSError, disk.Unreadable):
        return
    if count:
        samples = text.split(SAMPLE_MARK)[1 : count + 1]
        print("\n".join((SAMPLE_MARK + sample).rstrip() for sample in samples))
