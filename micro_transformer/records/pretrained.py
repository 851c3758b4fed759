"""What the figures of fine-tunings depend on besides their seeds: the pre-trained net."""

from collections.abc import Iterable

from micro_transformer.records.run_record import RunRecord


def shared_base_seed(records: Iterable[RunRecord]) -> int | None:
    """Seed of the one pre-trained net from whose weights runs of several seeds start; None unless
    all do. An interval over such seeds holds for that net, not for pre-training anew."""
    known = list(records)
    origins = [record.config.get("origin") for record in known]
    seeds = [start.get("seed") if isinstance(start, dict) else None for start in origins]
    is_one = len({record.seed for record in known}) > 1 and all(s == seeds[0] for s in seeds)
    return seeds[0] if is_one and isinstance(seeds[0], int) else None
