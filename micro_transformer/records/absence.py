"""Why a value that was asked for is missing."""

from micro_transformer.records.metrics import end_of
from micro_transformer.records.run_record import RunRecord, leaves
from micro_transformer.wording import _


def absence(record: RunRecord, key: str) -> str:
    """Why a run has no value of this key; "" if the key was not asked for."""
    if key not in record.metrics and key not in record.cost:
        return ""
    for flag in record.flags:
        if flag.startswith(f"{key} was ") or flag.startswith(f"{key}: "):
            return flag[len(key) :].removeprefix(" ").removeprefix(": ")
    end = end_of(key)
    if end and 0 in (record.metrics.get("n/windows"), record.metrics.get("context/n")):
        return _("no text that long")
    known = dict(leaves(record.config))
    limits = [known.get(name) for name in ("model.max_len", "train.context")]
    limit = min((n for n in limits if isinstance(n, int)), default=None)
    if end and limit is not None and end > limit:
        return _("no trained position past {limit}", limit=limit)
    return _("not measurable")
