"""Skills: modes of a multilinear model, each learned along a sigmoid, asked for with power-law frequency.

Skill k has frequency p_k = k^-(1+alpha) / Z; the two factors of its strength R_k S grow from R_k(0) = R0 by gradient
flow, so

    R_k(t) = 1 / (1 + (1/R0 - 1) e^(-2 p_k S t)),    L(t) = sum_k p_k S^2 (1 - R_k(t))^2 / 2.

Every skill emerges suddenly, at t_k = ln(1/R0 - 1) / (2 p_k S), but the loss is a smooth power t^-alpha/(1+alpha). A
model that holds the first N skills is left with N^-alpha; on C = N t the best loss falls as C^-alpha/(2+alpha). Data
limit it as they do quanta (module quanta).

Source: Nam, Fonseca, Lee, Mingard and Louis 2024, arXiv 2404.17563.

Regime. 2 p_1 S t >> ln(1/R0): the first skills are learned; before, no power.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat
from scipy.optimize import minimize_scalar
from scipy.special import zeta

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import result
from pipeline.experiments.laws.solvable_scaling.outcome import Exponent, Outcome, falling, planned, recovered, rows_of
from pipeline.experiments.laws.solvable_scaling.spectrum import LAST, beyond, modes
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "skills"
SOURCE = "Nam et al. 2024, arXiv 2404.17563"
TOLERANCE = 5e-3


class SkillDials(Section):
    """`alphas` are the tails of the frequencies; `initial` is R0."""

    alphas: Annotated[list[PositiveFloat], Field(min_length=1)]
    initial: Annotated[float, Field(gt=0, lt=0.5)]


def plan(dials: SkillDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """A run for each alpha."""
    return [planned(MODEL, "power", {"alpha": alpha, "initial": dials.initial}, seconds=0.2) for alpha in dials.alphas]


def run(spec: RunSpec) -> RunResult:
    """Local exponents over two halves: `time_...` of L(t), `size_...` of L(N, inf), `budget_...` of L*(C)."""
    alpha, initial = spec.settings["alpha"], spec.settings["initial"]
    t, N, C = np.geomspace(1e5, 1e9, 21), np.geomspace(1e2, 1e6, 21), np.geomspace(1e8, 1e14, 13)
    curve = [loss(alpha, initial, time) for time in t]
    best = [
        minimize_scalar(
            lambda x, budget=budget: loss(alpha, initial, budget * np.exp(-x), np.exp(x)),
            bounds=(np.log(200.0), 0.7 * np.log(budget)),
            method="bounded",
        ).fun
        for budget in C
    ]
    scalars = falling({"time": (t, curve), "size": (N + 0.5, beyond(1 + alpha, N)), "budget": (C, best)})
    return result(scalars, {"step": np.arange(len(t)), "t": t, "loss": np.array(curve)})


def loss(alpha: float, initial: float, t: float, N: float = LAST) -> float:
    """L(t) of a model of the first N skills, S = 1; N from about 200 on. Those beyond cost p_k / 2."""
    k, count = modes(N)
    p = k ** -(1 + alpha) / zeta(1 + alpha)
    strength = 1 / (1 + (1 / initial - 1) * np.exp(-2 * p * t))
    return float(np.sum(count * p * (1 - strength) ** 2) + beyond(1 + alpha, N) / zeta(1 + alpha)) / 2


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """The exponents in time, size and compute."""
    exponents = [
        Exponent(MODEL, of, f"alpha = {row['alpha']:g}", predicted, row[f"{key}_last"], row[f"{key}_first"])
        for row in rows_of(runs, MODEL, "power").sort("alpha").iter_rows(named=True)
        for key, of, predicted in (
            ("time", "L in t", row["alpha"] / (1 + row["alpha"])),
            ("size", "L in N", row["alpha"]),
            ("budget", "L* in C", row["alpha"] / (2 + row["alpha"])),
        )
    ]
    claim = Claim("skills: exponents in time, size and compute", "t^-alpha/(1+alpha), N^-alpha, C^-alpha/(2+alpha)",
                  SOURCE, figure="solvable_scaling_exponents")  # fmt: skip
    words = "Skills that emerge one by one add up to smooth powers"
    return Outcome([recovered(claim, exponents, TOLERANCE, words)], exponents)
