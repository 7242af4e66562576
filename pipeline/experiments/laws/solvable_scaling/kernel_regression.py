"""Kernel regression on power-law modes: the test error as a function of the number of samples.

With kernel eigenvalues k^-a, the target's share k^-b of the variance in mode k, n samples and ridge delta, the
effective regularisation kappa and the learnabilities l_k = k^-a / (k^-a + kappa) solve

    sum_k l_k + delta / kappa = n,    error = n / (n - sum_k l_k^2) * sum_k (1 - l_k)^2 k^-b.

Without a ridge kappa = ((pi/a) / sin(pi/a) / n)^a, and the error falls as n^-(b-1).

Source: Simon, Dickens, Karkada and DeWeese 2021, arXiv 2110.03922 (the eigenframework); Canatar, Bordelon and Pehlevan
2020, arXiv 2006.13198.

Regime. The source b, known before: sum (1 - l_k)^2 k^-b is ruled by the modes near k = n while b - 1 < 2a, and by the
first modes, whose error is (kappa / k^-a)^2 ~ n^-2a, beyond b = 1 + 2a: the exponent is min(b - 1, 2a).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field
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
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "kernel_regression"
SOURCE = "Simon et al. 2021, arXiv 2110.03922"
TOLERANCE = 0.015
SHARE = 100
"""Exponents are those of the last factor of so much in n."""


class KernelDials(Section):
    """`most_samples` is the largest n; `sources` values of b on both sides of 1 + 2a, at the first a."""

    most_samples: Annotated[float, Field(ge=1e3, le=1e9)]
    sources: Annotated[list[Annotated[float, Field(gt=1)]], Field(min_length=2)]


def ends(a: float) -> dict[str, float]:
    """Where theory puts the end of the regime in each swept dial, which needs values on both sides."""
    return {"sources": 1 + 2 * a}


def plan(dials: KernelDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """The error for each pair (a, b), and for each source at the first a."""
    a, most = exponents[0][0], {"most_samples": dials.most_samples}
    powers = [planned(MODEL, "power", {"a": a, "b": b} | most, seconds=0.05) for a, b in exponents]
    return powers + [planned(MODEL, "source", {"a": a, "b": b} | most, seconds=0.05) for b in dials.sources]


def run(spec: RunSpec) -> RunResult:
    """`power_first`, `power_last`: exponents in n + 1/2 over two halves of the last factor SHARE; `kappa_ratio`: kappa
    at the largest n over its closed form."""
    a, b, most = (spec.settings[name] for name in ("a", "b", "most_samples"))
    n = np.geomspace(most / SHARE, most, 13)
    errors, kappas = np.array([expected_error(a, b, size) for size in n]).T
    ratio = kappas[-1] / (np.pi / a / np.sin(np.pi / a) / (n[-1] + 0.5)) ** a
    scalars = falling({"power": (n + 0.5, errors)}) | {"kappa_ratio": ratio}
    return result(scalars, {"step": np.arange(len(n)), "n": n, "error": errors})


def expected_error(a: float, b: float, n: float, delta: float = 0.0, last: float = LAST) -> tuple[float, float]:
    """(expected error of predictions, kappa) for n samples and ridge delta.

    Modes beyond `last` are learned by none; they act as a ridge and add what they hold to the error.
    """
    k, count = modes(last)
    power, ridge = k**-a, delta + float(beyond(a, last))

    def spare(log_kappa: float) -> float:
        kappa = np.exp(log_kappa)
        return float(np.sum(count * power / (power + kappa)) + ridge / kappa) - n

    kappa = float(np.exp(brentq(spare, -a * np.log(last), np.log(10 + delta), xtol=1e-13)))
    learned = power / (power + kappa)
    error = np.sum(count * (1 - learned) ** 2 * k**-b) + float(beyond(b, last))
    return float(n / (n - np.sum(count * learned**2)) * error), kappa


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """The exponent in n, and the source from which it saturates."""
    power, source = (rows_of(runs, MODEL, part).sort("a", "b") for part in ("power", "source"))
    a = source["a"][0]
    exponents = [
        Exponent(MODEL, "error in n", f"a = {row['a']:g}, b = {row['b']:g}", min(row["b"] - 1, 2 * row["a"]),
                 row["power_last"], row["power_first"])
        for row in power.iter_rows(named=True)
    ]  # fmt: skip
    table = source.select(
        "b",
        exponent="power_last",
        predicted=pl.min_horizontal(pl.col("b") - 1, 2 * a),
        short=1 - pl.col("power_last") / (pl.col("b") - 1),
    )
    kappa = (power["kappa_ratio"] - 1).abs().max()
    words = f"Kernel regression learns from n samples as predicted (kappa is its closed form to {kappa:.1g})"
    claim = Claim("kernel regression: exponent in samples", "error ~ n^-min(b-1, 2a)", SOURCE,
                  figure="solvable_scaling_exponents")  # fmt: skip
    ends = Claim("kernel regression: saturation", "b = 1 + 2a", SOURCE, role="boundary",
                 figure="solvable_scaling_source")  # fmt: skip
    found = [
        recovered(claim, exponents, TOLERANCE, words),
        saturation(ends, table, TOLERANCE, 1 + 2 * a, 1.05, f"kernel regression at a = {a:g}"),
    ]
    return Outcome(found, exponents, {"source_kernel": table})
