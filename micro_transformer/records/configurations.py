"""Boards -> what was trained, with the curve of each training."""

from collections import Counter
from collections.abc import Sequence

from micro_transformer.records.metrics import LOSS
from micro_transformer.records.record_files import read_history
from micro_transformer.records.rows import Board, Row, Setting, setting_of
from micro_transformer.records.run_record import TRAINED_BESIDE, RunRecord, is_number
from micro_transformer.records.training_curves import FLOPS, SECONDS, TOKENS, Configuration, Curve
from micro_transformer.wording import _

# How long a training is and how often it is evaluated: not what is trained.
LENGTH = ("train.steps", "train.eval_every")


def configurations(board: Board) -> list[Configuration]:
    """What was trained: rows that differ in the length of their training, or in what is measured
    on one training (caches, decodings), are one."""
    dropped = {*LENGTH, *_after_training(board)}
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in (row for row in board.rows if not row.is_invalid):
        kept = tuple((k, level) for k, level in row.levels.items() if k not in dropped)
        groups.setdefault(kept, []).append(row)
    setting = _most_trained_in(board)
    found = []
    for levels, rows in groups.items():
        trainings = {_training(r): r for row in rows for r in row.ok}
        bad = [r for row in rows for r in row.bad]
        missing = sorted(set.intersection(*(set(row.missing) for row in rows)))
        merged = Row(dict(levels), list(trainings.values()), bad, missing)
        curves = [c for r in merged.ok if (c := _curve(r, setting))]
        found.append(Configuration(merged, curves))
    return found


def differ_in_flops(found: Sequence[Configuration]) -> bool:
    """Whether the configurations cost different FLOPs per token and have curves to compare. Nets
    of which a part is frozen are left out: their backward pass costs less than two forward ones.
    """
    sizes = [r.size for configuration in found for r in configuration.row.ok]
    whole = all(size.get("trainable") == size.get("params") for size in sizes)
    flops = {f for c in found if (f := c.flops_per_token)}
    return whole and len(flops) > 1 and any(c.curves for c in found)


def _curve(record: RunRecord, setting: Setting | None) -> Curve | None:
    """None without an evaluation of the validation loss in the history."""
    lines = read_history(record.path) if record.path else []
    known = [e for e in lines if is_number(e.get(LOSS.key)) and e["step"] > 0]
    if not known:
        return None
    steps = [int(line["step"]) for line in known]
    train = record.config.get("train")
    planned = train.get("steps") if isinstance(train, dict) else None
    length = planned if isinstance(planned, int) else steps[-1]
    curve = Curve(record.seed, length, steps, [float(line[LOSS.key]) for line in known])
    rate, seconds = (record.cost.get(f"train/{key}") for key in ("tokens_per_s", "seconds"))
    if rate and seconds:  # every step has as many tokens
        total = round(rate * seconds)
        curve.costs[TOKENS] = [total * step / steps[-1] for step in steps]
    else:
        curve.lacks[TOKENS] = _("no number of tokens")
    flops = record.size.get("flops_per_token")
    if flops and TOKENS in curve.costs:
        curve.costs[FLOPS] = [3 * flops * tokens for tokens in curve.costs[TOKENS]]
    else:
        curve.lacks[FLOPS] = _("no number of FLOPs")
    if why := _untimed(record, setting):
        curve.lacks[SECONDS] = why
    elif all(is_number(line.get(SECONDS)) for line in known):
        curve.costs[SECONDS] = [float(line[SECONDS]) for line in known]
    else:
        curve.lacks[SECONDS] = _("no times")
    return curve


def _untimed(record: RunRecord, setting: Setting | None) -> str:
    """Why the time of a training is not comparable; "" if it is."""
    if TRAINED_BESIDE in record.flags or setting_of(record).is_disturbed:
        return _("trained beside other jobs")
    return "" if setting_of(record) == setting else _("trained on another machine")


def _most_trained_in(board: Board) -> Setting | None:
    """The setting of most undisturbed trainings."""
    settings = Counter(s for r in board.records if not (s := setting_of(r)).is_disturbed)
    return settings.most_common(1)[0][0] if settings else None


def _training(record: RunRecord) -> str:
    return str(record.fingerprints.get("train") or record.id)


def _after_training(board: Board) -> set[str]:
    """Factors that take several levels on one training."""
    seen: dict[str, dict[str, str]] = {}
    found = set()
    for row in board.rows:
        for record in row.ok:
            levels = seen.setdefault(_training(record), row.levels)
            found |= {name for name, level in row.levels.items() if levels[name] != level}
    return found
