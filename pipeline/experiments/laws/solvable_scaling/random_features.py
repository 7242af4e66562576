"""Regression on random features: the test error as a function of the number of features P and of samples n.

The P features are random combinations of modes with eigenvalues lambda_k = k^-a; the target's share of the variance in
mode k is k^-b. With the sums z = sum lambda_k / (lambda_k + g), y = sum (lambda_k / (lambda_k + g))^2 the two
regularisations kappa (of samples) and g (of features) solve n = z + delta / kappa and P = z + P kappa / g, and

    error = sum_k g (g + lambda_k (z - y) / (P - y)) / (lambda_k + g)^2 k^-b
            / (1 - (y (P - 2z) + z^2) / (n (P - y))).

With n >> P the error falls as P^-(b-1), with P >> n as n^-(b-1): features and samples are dual. At fixed n it
approaches its limit as 1/P, whatever the spectrum (variance-limited).

Source: Maloney, Roberts and Sully 2022, arXiv 2210.16859; Bahri et al. 2021, arXiv 2102.06701 (duality, 1/P); Simon et
al. 2023, arXiv 2311.14646 (the error).

Regime. The source b: the exponent in P is min(b - 1, a), that in n min(b - 1, 2a), so the duality ends at b = 1 + a.
The ratio P / n: without a ridge the error peaks at P = n (double descent) and there is no power law near it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat
from scipy.optimize import brentq

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import result
from pipeline.experiments.laws.solvable_scaling.outcome import (
    Exponent,
    Outcome,
    falling,
    planned,
    recovered,
    rows_of,
    saturation,
)
from pipeline.experiments.laws.solvable_scaling.spectrum import LAST, beyond, modes
from pipeline.experiments.sweep import mean_over_seeds
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "random_features"
SOURCE = "Simon et al. 2023, arXiv 2311.14646; Bahri et al. 2021, arXiv 2102.06701"
TOLERANCE = 0.015
SHARE = 100
"""Exponents are those of the last factor of so much in P or n, with the other this much larger:"""
PLENTY = 1e16
RIDGE = 1e-3
SAMPLED_MODES = 600
"""Of the sampled regressions, which learn no mode beyond."""


class FeatureDials(Section):
    """`most` is the largest P and n; `sources` values of b on both sides of 1 + a, at the first a. Sampled regressions
    have `num_samples` samples, P / n in `ratios`, and are drawn `num_draws` times a seed."""

    most: Annotated[float, Field(ge=1e3, le=1e8)]
    sources: Annotated[list[Annotated[float, Field(gt=1)]], Field(min_length=2)]
    num_samples: Annotated[int, Field(ge=10)]
    ratios: Annotated[list[PositiveFloat], Field(min_length=5)]
    num_draws: Annotated[int, Field(ge=2)]


def ends(a: float) -> dict[str, float]:
    """Where theory puts the end of the regime in each swept dial, which needs values on both sides."""
    return {"sources": 1 + a, "ratios": 1.0}


def plan(dials: FeatureDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """The error for each pair (a, b), for each source at the first a, and regressions sampled across P = n."""
    (a, b), most = exponents[0], {"most": dials.most}
    sampled = {"a": a, "b": b, "num_samples": dials.num_samples, "num_draws": dials.num_draws}
    return [
        *(planned(MODEL, "power", {"a": a, "b": b} | most, seconds=0.05) for a, b in exponents),
        *(planned(MODEL, "source", {"a": a, "b": source} | most, seconds=0.05) for source in dials.sources),
        *(
            planned(MODEL, "peak", sampled | {"ratio": ratio}, seed, seconds=0.05)
            for ratio in dials.ratios
            for seed in seeds
        ),
    ]


def run(spec: RunSpec) -> RunResult:
    """Exponents `P_first`, `P_last` in P + 1/2, `n_first`, `n_last` in n + 1/2, and `limit`, that of the approach to
    P = infinity at fixed n; of a sampled part `sampled`, the mean error of its regressions, and `expected`."""
    setup = spec.settings
    a, b = setup["a"], setup["b"]
    if setup["part"] == "peak":
        n, P = setup["num_samples"], round(setup["num_samples"] * setup["ratio"])
        random = np.random.default_rng(spec.seed)
        drawn = [sampled_error(a, b, n, P, random) for _ in range(setup["num_draws"])]
        expected = expected_error(a, b, n, P, RIDGE, SAMPLED_MODES, hidden=False)
        return result({"sampled": float(np.mean(drawn)), "expected": expected})
    size = np.geomspace(setup["most"] / SHARE, setup["most"], 13)
    by_features = [expected_error(a, b, setup["most"] * PLENTY, P) for P in size]
    by_samples = [expected_error(a, b, n, setup["most"] * PLENTY) for n in size]
    few, many = 100.0, np.geomspace(1e4, 1e6, 5)
    above = [expected_error(a, b, few, P) - expected_error(a, b, few, 1e15) for P in many]
    scalars = falling({"P": (size + 0.5, by_features), "n": (size + 0.5, by_samples), "limit": (many, above)})
    columns = {"size": size, "error_P": np.array(by_features), "error_n": np.array(by_samples)}
    return result(scalars, {"step": np.arange(len(size))} | columns)


def expected_error(
    a: float, b: float, n: float, P: float, delta: float = 0.0, last: float = LAST, hidden: bool = True
) -> float:
    """The expected error of predictions from n samples, P features and ridge delta; `hidden` counts modes past `last`.

    (n - z) (P - z) g / P = delta is solved for g with z < min(n, P); without a ridge z = min(n, P).
    """
    k, count = modes(last)
    power, rest = k**-a, float(beyond(a, last)) if hidden else 0.0
    least, low, high = min(n, P), -a * np.log(1e3 * last), np.log(1e6 + delta)

    def z_of(log_g: float) -> float:
        g = np.exp(log_g)
        return float(np.sum(count * power / (power + g)) + rest / g)

    def unbalanced(log_g: float) -> float:
        z = z_of(log_g)
        return (n - z) * (P - z) * np.exp(log_g) / P - delta

    start = brentq(lambda log_g: z_of(log_g) - least, low, high, xtol=1e-13) if z_of(low) > least else low
    log_g = brentq(unbalanced, start, high, xtol=1e-13) if delta else start
    g, z = np.exp(log_g), z_of(log_g) if delta else least
    y = np.sum(count * (power / (power + g)) ** 2)
    held = g * (g + power * (z - y) / (P - y)) / (power + g) ** 2
    error = np.sum(count * held * k**-b) + (float(beyond(b, last)) if hidden else 0.0)
    return float(error / (1 - (y * (P - 2 * z) + z**2) / (n * (P - y))))


def sampled_error(a: float, b: float, n: int, P: int, random: np.random.Generator) -> float:
    """The error of one regression with Gaussian samples and features, exact given these."""
    k = np.arange(1, SAMPLED_MODES + 1.0)
    target, root = k ** (-b / 2), k ** (-a / 2)
    X, F = random.normal(size=(n, len(k))), random.normal(size=(P, len(k))) * root / np.sqrt(P)
    Z = X @ F.T
    if P <= n:
        weights = np.linalg.solve(Z.T @ Z + RIDGE * np.eye(P), Z.T @ (X @ target))
    else:
        weights = Z.T @ np.linalg.solve(Z @ Z.T + RIDGE * np.eye(n), X @ target)
    return float(np.sum((F.T @ weights - target) ** 2))


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """The exponents in P and n, the approach to infinitely many features, and where the duality ends."""
    power, source = (rows_of(runs, MODEL, part).sort("a", "b") for part in ("power", "source"))
    a = source["a"][0]
    exponents = [
        Exponent(MODEL, of, f"a = {row['a']:g}, b = {row['b']:g}", predicted, row[f"{key}_last"], row[f"{key}_first"])
        for row in power.iter_rows(named=True)
        for key, of, predicted in (
            ("P", "error in P", min(row["b"] - 1, row["a"])),
            ("n", "error in n", min(row["b"] - 1, 2 * row["a"])),
            ("limit", "error less its limit in P", 1.0),
        )
    ]
    table = source.select(
        "b",
        exponent="P_last",
        predicted=pl.min_horizontal(pl.col("b") - 1, a),
        short=1 - pl.col("P_last") / pl.col("n_last"),
    )
    peak, say = _peak(rows_of(runs, MODEL, "peak"))
    claim = Claim("random features: exponents", "P^-min(b-1, a), n^-min(b-1, 2a); 1/P at fixed n", SOURCE,
                  figure="solvable_scaling_exponents")  # fmt: skip
    ends = Claim("random features: duality of features and samples", "b = 1 + a", SOURCE, role="boundary",
                 figure="solvable_scaling_source")  # fmt: skip
    words = "Features and samples are dual, and the last features help as 1/P"
    found = [
        recovered(claim, exponents, TOLERANCE, words),
        saturation(ends, table, TOLERANCE, 1 + a, 1.05, f"random features in P at a = {a:g} (against that in n)"),
    ]
    return Outcome(found, exponents, {"source_features": table, "peak": peak}, [say])


def _peak(runs: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Sampled and expected error by P / n, and what they say of the peak."""
    table = mean_over_seeds(runs, "ratio", "sampled", "expected")
    apart = table.filter(pl.col("ratio").log().abs() > np.log(1.5))
    off = (apart["sampled"] / apart["expected"]).log().abs().max()
    highest = table.sort("sampled").row(-1, named=True)
    return table, (
        f"Sampled random-feature regressions have their largest error at P / n = {highest['ratio']:g} "
        f"({highest['sampled'] / table['sampled'].min():.1f} times the least), where double descent puts it (1), and "
        f"agree with the formula within {100 * off:.2g} % where P / n is off by more than 1.5."
    )
