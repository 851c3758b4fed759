"""Intervals of a share."""

from scipy.stats import binomtest


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of hits/n (Wilson, 1927); inside [0, 1] also where all or none hit."""
    interval = binomtest(hits, n).proportion_ci(confidence, "wilson")
    return float(interval.low), float(interval.high)
