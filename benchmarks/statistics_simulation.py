"""Coverage and error rates of the statistics over simulated sweeps with known effects.

    python benchmarks/statistics_simulation.py [--sweeps 2000]

Two train factors (3 x 2 levels), one factor measured on the trained weights (2 levels), 3 seeds;
noise of the seed, of the training and of the measurement. Prints, for complete sweeps and for
sweeps with missing cells and runs: how many 95 % intervals cover the true effect, how often an
effect is claimed where there is none (family-wise), how often "no difference larger than the
margin" is claimed when the true difference is the margin, and how often the stated detectable
effect is found.
"""

import argparse
import itertools
from dataclasses import replace

import numpy as np

from micro_transformer.records import metrics
from micro_transformer.stats.effects import Effects, compare
from micro_transformer.stats.error_strata import Value

FACTORS = ["posenc", "ffn", "cache"]
LEVELS = [("a", "b", "c"), ("x", "y"), ("m", "n")]
SEEDS = (42, 43, 44)
MARGIN = 0.01


def simulate(draw, effect: dict[str, float], missing: bool, noise: float = 0.005) -> list[Value]:
    """One sweep; missing: without a whole cell, a training, and a measurement."""
    by_seed = {s: draw.normal(0, 2 * noise) for s in SEEDS}
    lost = draw.integers(0, 6), draw.integers(0, 18), draw.integers(0, 36)
    values = []
    for i, (p, f) in enumerate(itertools.product(LEVELS[0], LEVELS[1])):
        for k, seed in enumerate(SEEDS):
            training = draw.normal(0, noise)
            for m, cache in enumerate(LEVELS[2]):
                figure = 1.6 + by_seed[seed] + training + draw.normal(0, noise / 3)
                figure += sum(effect.get(level, 0.0) for level in (p, f, cache))
                gone = i == lost[0], 3 * i + k == lost[1], 6 * i + 2 * k + m == lost[2]
                if not (missing and any(gone)):
                    values.append(Value((p, f, cache), seed, f"{p}{f}{seed}", figure))
    return values


def analysed(values: list[Value]) -> Effects:
    """The effects found, with the margin of this study."""
    return compare(FACTORS, values, Effects(replace(metrics.LOSS, margin=MARGIN)))


def study(sweeps: int, missing: bool, seed: int = 0) -> dict[str, float]:
    """Maps claim -> its share over the simulated sweeps."""
    draw = np.random.default_rng(seed)
    truth = {"b": 0.02, "c": -0.01, "y": 0.004, "n": 0.003}
    covered, claimed, wrong, found = [], [], [], []
    for _ in range(sweeps):
        for c in analysed(simulate(draw, truth, missing)).contrasts:
            low, high = c.estimate.interval()
            covered.append(low <= truth.get(c.a, 0.0) - truth.get(c.b, 0.0) <= high)
        null = analysed(simulate(draw, {}, missing))
        claimed.append(
            any(c.verdict == "differs" for c in null.contrasts)
            or any(x.p < 0.05 for x in null.interactions)
        )
        edge = analysed(
            simulate(draw, {"b": MARGIN, "c": MARGIN, "y": MARGIN, "n": MARGIN}, missing)
        )
        at_margin = [c for c in edge.contrasts if {c.a, c.b} != {"b", "c"}]
        wrong += [c.p_beyond < 0.05 for c in at_margin]
        size = next(c.detectable for c in null.contrasts if c.factor == "ffn")
        real = analysed(simulate(draw, {"y": size}, missing))
        # Holm's first step, which is what `detectable` speaks of.
        found += [c.estimate.p < 0.05 / real.family for c in real.contrasts if c.factor == "ffn"]
    return {
        "95 % intervals that cover the truth": float(np.mean(covered)),
        "null sweeps with any claim": float(np.mean(claimed)),
        "equivalence verdicts that are wrong at the margin": float(np.mean(wrong)),
        "detectable effects that are found": float(np.mean(found)),
    }


def main() -> None:
    """Prints both studies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=2000)
    sweeps = parser.parse_args().sweeps
    for name, missing in (("complete", False), ("cells and runs missing", True)):
        print(f"{sweeps} sweeps, {name}")
        for what, share in study(sweeps, missing).items():
            print(f"  {share:7.2%}  {what}")


if __name__ == "__main__":
    main()
