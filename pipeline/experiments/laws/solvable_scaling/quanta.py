"""Quanta: discrete pieces of knowledge of power-law frequency, learned whole or not at all.

Task k is asked with probability p_k = k^-(1+alpha) / Z, and costs 1 as long as its quantum is not learned. A model
that holds the n commonest quanta has the loss sum_{k > n} p_k ~ n^-alpha. Data that show a quantum at least tau times
teach it, so after D samples

    L(D) = sum_k p_k P[Poisson(D p_k) < tau] ~ D^-alpha/(1+alpha)

for any tau; for tau = 1 the amplitude is Gamma(s) / ((1 + alpha) Z) Z^s with s = alpha / (1 + alpha).

Source: Michaud, Liu, Girit and Tegmark 2023, arXiv 2303.13506; Hutter 2021, arXiv 2102.04074 (tau = 1).

Regime. D p_1 >> tau: the first quanta are learned. With finitely many quanta the power ends with the last of them.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat
from scipy.special import gamma, gammaincc, zeta

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import result
from pipeline.experiments.laws.solvable_scaling.outcome import Exponent, Outcome, falling, planned, rows_of, told
from pipeline.experiments.laws.solvable_scaling.spectrum import LAST, beyond, modes
from pipeline.experiments.sweep import greatest
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "quanta"
SOURCE = "Michaud et al. 2023, arXiv 2303.13506; Hutter 2021, arXiv 2102.04074"
ONCE, OFTEN = 1e-3, 5e-3
"""Tolerances of the exponents where one sample teaches a quantum (and in size), and where several have to."""


class QuantaDials(Section):
    """`alphas` are the tails of the frequencies; `thresholds` tau, how many samples teach a quantum."""

    alphas: Annotated[list[PositiveFloat], Field(min_length=1)]
    thresholds: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1)]


def plan(dials: QuantaDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """A run for each alpha and tau."""
    return [
        planned(MODEL, "power", {"alpha": alpha, "threshold": tau}, seconds=0.1)
        for alpha in dials.alphas
        for tau in dials.thresholds
    ]


def run(spec: RunSpec) -> RunResult:
    """Exponents `size_first`, `size_last`, `data_first`, `data_last`; `amplitude` of L(D) over that of tau = 1."""
    alpha, tau = spec.settings["alpha"], spec.settings["threshold"]
    n, D = np.geomspace(1e2, 1e6, 21), np.geomspace(1e4, 1e8, 21)
    loss = data_loss(alpha, tau, D)
    scalars = falling({"size": (n + 0.5, beyond(1 + alpha, n)), "data": (D, loss)})
    return result(
        scalars | {"amplitude": loss[-1] / asymptote(alpha, D[-1])}, {"step": np.arange(len(D)), "D": D, "loss": loss}
    )


def data_loss(alpha: float, tau: int, D: np.ndarray) -> np.ndarray:
    """L(D): the share of questions whose quantum fewer than tau of D samples have shown."""
    k, count = modes()
    p = k ** -(1 + alpha) / zeta(1 + alpha)
    return gammaincc(tau, np.multiply.outer(D, p)) @ (count * p) + float(beyond(1 + alpha, LAST)) / zeta(1 + alpha)


def asymptote(alpha: float, D: float) -> float:
    """L(D) for large D and tau = 1."""
    Z, s = zeta(1 + alpha), alpha / (1 + alpha)
    return float(gamma(s) / ((1 + alpha) * Z) * (D / Z) ** -s)


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """Every exponent against its tolerance."""
    rows = rows_of(runs, MODEL, "power").sort("alpha", "threshold")
    exponents, shares = [], []
    for row in rows.iter_rows(named=True):
        alpha, tau = row["alpha"], row["threshold"]
        in_data = Exponent(MODEL, "L in D", f"alpha = {alpha:g}, tau = {tau}", alpha / (1 + alpha), row["data_last"],
                           row["data_first"])  # fmt: skip
        in_size = Exponent(MODEL, "L in n", f"alpha = {alpha:g}", alpha, row["size_last"], row["size_first"])
        exponents += [in_data, in_size] if tau == rows["threshold"].min() else [in_data]
        shares += [in_data.off / (ONCE if tau == 1 else OFTEN), in_size.off / ONCE]
    worst = max((one for one in exponents if one.of == "L in D"), key=lambda one: one.off)
    says = (
        f"The loss falls as n^-alpha and D^-alpha/(1+alpha); worst in D: {told(worst, 6)} for "
        f"{worst.predicted:.6g} at {worst.setting}."
    )
    first = rows.filter(pl.col("threshold") == 1)["amplitude"]
    if len(first):
        says += f" With one sample a quantum the amplitude is the predicted one to {(first - 1).abs().max():.1g}."
    claim = Claim("quanta: exponents in size and data", "n^-alpha, D^-alpha/(1+alpha)", SOURCE, "of the tolerances "
                  "1e-3 (tau = 1, n) and 5e-3", "identity", figure="solvable_scaling_exponents")  # fmt: skip
    return Outcome([claim.at_most(greatest(shares), 1.0, says)], exponents)
