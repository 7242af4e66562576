"""Gradient flow on power-law modes: a loss surface L(N, t) that is known in closed form.

Modes k = 1, 2, ... have curvature k^-a, and the target's share of the loss in mode k is k^-b. A model of N of these
modes, after gradient flow for a time t, has the loss

    L(N, t) = E + sum_{k <= N} k^-b e^(-2 k^-a t) + zeta(b, N + 1).

So L(inf, t) - E = Gamma((b-1)/a) (2t)^(-(b-1)/a) / a and L(N, inf) - E = (N + 1/2)^-(b-1) / (b-1): with C = N t the
best loss on a budget falls as C^-alpha_C, alpha_C = (b-1)/(1+a), at N* ~ C^(1/(1+a)).

Source: the model after Bordelon, Atanasov and Pehlevan 2024, arXiv 2402.01092; sums and asymptotics derived here.

Regime. t / N^a: far below 1 time limits the loss, far above 1 size does, and the loss is then flat in time.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import zeta

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import result
from pipeline.experiments.laws.solvable_scaling.outcome import Exponent, Outcome, falling, planned, rows_of, told
from pipeline.experiments.laws.solvable_scaling.spectrum import LAST, beyond, decayed_beyond, modes
from pipeline.experiments.sweep import greatest
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "gradient_flow"
SOURCE = "Bordelon et al. 2024, arXiv 2402.01092; derived here"
BUDGETS = 1e6
POWER, FRONTIER = 1e-3, 1e-2
"""Relative tolerances of the exponents in N and t, and of those on the frontier."""


class FlowDials(Section):
    """`most_compute` is the largest budget C = N t; the frontier is followed over the last factor BUDGETS."""

    most_compute: Annotated[float, Field(ge=1e10, le=1e14)]


def plan(dials: FlowDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """A run for each pair (a, b)."""
    most = dials.model_dump()
    return [planned(MODEL, "exact", {"a": a, "b": b} | most, seconds=0.05) for a, b in exponents]


def run(spec: RunSpec) -> RunResult:
    """Local exponents, `<of>_first` and `<of>_last` half: in t of L(inf, t), in N + 1/2 of L(N, inf), and in C of the
    least loss and of the size N* that has it."""
    a, b, most = (spec.settings[name] for name in ("a", "b", "most_compute"))
    t, N, C = np.geomspace(1e3, 1e7, 21), np.geomspace(1e2, 1e6, 21), np.geomspace(most / BUDGETS, most, 13)
    best = [
        minimize_scalar(
            lambda x, budget=budget: smooth_loss(np.exp(x), budget * np.exp(-x), a, b),
            bounds=(np.log(100.0), 0.9 * np.log(budget)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        for budget in C
    ]
    exponents = falling({
        "time": (t, smooth_loss(1e18, t, a, b)),
        "modes": (N + 0.5, beyond(b, N)),
        "least_loss": (C, [one.fun for one in best]),
        "best_size": (C, np.exp([-one.x for one in best])),
    })  # fmt: skip
    return result(exponents)


def flow_loss(N: np.ndarray, t: np.ndarray, a: float, b: float) -> np.ndarray:
    """L(N, t) - E at pairs of N and t, summed mode by mode."""
    k = np.arange(1, int(N.max()) + 1.0)
    left = {time: np.cumsum(k**-b * np.exp(-2 * k**-a * time)) for time in np.unique(t)}
    return np.array([left[time][int(size) - 1] for size, time in zip(N, t, strict=True)]) + zeta(b, N + 1)


def smooth_loss(N: float, t: np.ndarray | float, a: float, b: float) -> np.ndarray | float:
    """L(N, t) - E for any real N from about 100 on: what is left of all modes, and what those missing would learn."""
    k, count = modes()
    everything = np.exp(-2 * np.multiply.outer(t, k**-a)) @ (count * k**-b) + beyond(b, LAST)
    return everything + beyond(b, N) - decayed_beyond(b, a, 2 * t, N)


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """The worst exponent of each kind against its tolerance."""
    rates = [
        Exponent(MODEL, of, f"a = {row['a']:g}, b = {row['b']:g}", predicted, row[f"{key}_last"], row[f"{key}_first"])
        for row in rows_of(runs, MODEL, "exact").sort("a", "b").iter_rows(named=True)
        for key, of, predicted in (
            ("time", "L in t", (row["b"] - 1) / row["a"]),
            ("modes", "L in N", row["b"] - 1),
            ("least_loss", "L* in C", (row["b"] - 1) / (1 + row["a"])),
            ("best_size", "N* in C", 1 / (1 + row["a"])),
        )
    ]
    allowed = {"L in t": POWER, "L in N": POWER, "L* in C": FRONTIER, "N* in C": FRONTIER}
    worst = {of: max((one for one in rates if one.of == of), key=lambda one: one.off) for of in allowed}
    share = greatest(one.off / allowed[of] for of, one in worst.items())
    listed = ", ".join(f"{of} {told(one, 6)} for {one.predicted:.6g}" for of, one in worst.items())
    says = f"Gradient flow has the exponents of its asymptotics; the worst of each kind: {listed}."
    formula = "alpha_t = (b-1)/a, alpha_N = b-1, alpha_C = (b-1)/(1+a), N* ~ C^(1/(1+a))"
    claim = Claim("exponents of gradient flow", formula, SOURCE, "of the tolerances 1e-3 (t, N) and 1e-2 (C)",
                  "identity", figure="solvable_scaling_exponents")  # fmt: skip
    return Outcome([claim.at_most(share, 1.0, says)], rates)
