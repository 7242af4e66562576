"""Stochastic gradient descent in one pass over Gaussian data with a power-law spectrum, in exact expectation.

Inputs are N(0, diag(k^-a)), the target's share of the loss in mode k is k^-b, every step takes B fresh samples. The
expected squared errors e_k of the weights obey, with r = sum k^-a e_k the excess loss and noise s2,

    e_k <- e_k (1 - 2 eta k^-a + eta^2 (1 + 1/B) k^-2a) + (eta^2 / B) k^-a (r + s2)

exactly, whatever eta and B: Gaussian fourth moments close. The loss falls as t^-(b-1)/a, like that of gradient flow.
Modes that a model leaves out act as noise and have to be added to s2 and to the loss.

Source: one-pass SGD as in Lin et al. 2024, arXiv 2406.08466, and Paquette et al. 2024, arXiv 2405.15074; the recursion
and its ends derived here.

Regime. Two controls, both known before a run. The step eta tr H: the noise of the gradients stays finite while

    sum_k eta k^-a / (B (2 - eta (1 + 1/B) k^-a)) < 1,

and the loss diverges beyond. The source b: noise that decays as t^-(2 - 1/a) takes over where (b-1)/a > 2 - 1/a, that
is b > 2a.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat
from scipy.optimize import brentq
from scipy.special import zeta

from pipeline.experiments.experiment import Finding, Regime, RunResult
from pipeline.experiments.law import result
from pipeline.experiments.laws.solvable_scaling.outcome import (
    Exponent,
    Outcome,
    planned,
    recovered,
    rows_of,
)
from pipeline.experiments.laws.solvable_scaling.spectrum import LAST, beyond, modes
from pipeline.experiments.sweep import crossing, local_slopes
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "one_pass_sgd"
SOURCE = "Lin et al. 2024, arXiv 2406.08466; Paquette et al. 2024, arXiv 2405.15074"
TOLERANCE = 0.03
SHARE = 100
"""Exponents are those of the last factor of so much in time."""
RUNAWAY = 1e12
"""Loss, in units of the first, beyond which a run has diverged."""


class SgdDials(Section):
    """`rates` are values of eta tr H for the exponents, at batch 1; `edge` values on both sides of where the loss
    diverges; `sources` values of b on both sides of 2a, at the first a."""

    num_steps: Annotated[int, Field(ge=1000)]
    rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    edge: Annotated[list[PositiveFloat], Field(min_length=2)]
    sources: Annotated[list[Annotated[float, Field(gt=1)]], Field(min_length=2)]


def ends(a: float) -> dict[str, float]:
    """Where theory puts the end of the regime in each swept dial, which needs values on both sides."""
    return {"edge": stability_edge(a), "sources": 2 * a}


def plan(dials: SgdDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """SGD at each rate and full-batch descent for each pair (a, b); then the two sweeps that leave the regime."""
    (a, b), steps = exponents[0], {"num_steps": dials.num_steps}
    short = {"num_steps": dials.num_steps // 10}
    slow, fast = min(dials.rates), max(dials.rates)
    setups = [
        *(("power", {"a": a, "b": b, "rate": rate, "batch": 1}) for a, b in exponents for rate in dials.rates),
        *(("power", {"a": a, "b": b, "rate": slow, "batch": None}) for a, b in exponents),
        *(("edge", {"a": a, "b": b, "rate": rate, "batch": 1} | short) for rate in dials.edge),
        *(("source", {"a": a, "b": source, "rate": fast, "batch": 1}) for source in dials.sources),
    ]
    return [planned(MODEL, part, steps | setup, seconds=0.1) for part, setup in setups]


def run(spec: RunSpec) -> RunResult:
    """`first` and `last`: exponents of the excess loss over the two halves of the last factor SHARE of the steps;
    `growth`: the loss at the end over that at half time. The curve is the loss at some 200 steps."""
    setup = spec.settings
    loss = expected_loss(setup["a"], setup["b"], setup["rate"], setup["batch"], setup["num_steps"])
    if len(loss) <= setup["num_steps"]:
        return result({}, status="diverged", reason=f"loss above {RUNAWAY:g} at step {len(loss)}")
    steps = np.unique(np.round(np.geomspace(1, setup["num_steps"], 200)).astype(int))
    late = steps[steps >= setup["num_steps"] / SHARE]
    first, last = local_slopes(late, loss[late])
    scalars = {"first": -first, "last": -last, "growth": loss[-1] / loss[len(loss) // 2]}
    return result(scalars, {"step": steps, "loss": loss[steps]})


def expected_loss(a: float, b: float, rate: float, batch: int | None, num_steps: int, last: float = LAST) -> np.ndarray:
    """The expected excess loss before each step and after the last, at eta tr H = `rate`, modes up to `last` learned.

    `batch` None is the whole expectation, without noise. Ends early once the loss exceeds RUNAWAY.
    """
    k, count = modes(last)
    curvature, e, hidden = k**-a, k ** (a - b), float(beyond(b, last))
    eta, share = rate / zeta(a, 1), 0.0 if batch is None else 1 / batch
    kept, stirred = 1 - 2 * eta * curvature + eta**2 * (1 + share) * curvature**2, eta**2 * share * curvature
    weight, loss = count * curvature, np.empty(num_steps + 1)
    for step in range(num_steps + 1):
        loss[step] = weight @ e + hidden
        if not loss[step] < RUNAWAY:
            return loss[: step + 1]
        e = kept * e + stirred * loss[step]
    return loss


def stability_edge(a: float, batch: int = 1) -> float:
    """The value of eta tr H at which the gradient noise feeds itself without loss."""
    k, count = modes()
    curvature, most = k**-a, 2 / (1 + 1 / batch)
    edge = brentq(lambda eta: feedback(eta, curvature, batch, count) - 1, 1e-9, most * (1 - 1e-9))
    return float(zeta(a, 1) * edge)


def feedback(eta: float, curvature: np.ndarray, batch: float, count: np.ndarray | float = 1.0) -> float:
    """The share of a steady excess loss that its own gradient noise makes up, in modes of this curvature, `count` of
    each: e_k = eta r / (B (2 - eta (1 + 1/B) k^-a)) in the recursion, summed to r. At 1 the loss diverges."""
    return float(np.sum(count * eta * curvature / (batch * (2 - eta * (1 + 1 / batch) * curvature))))


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """The exponent in t, the rate at which the loss diverges, and the source from which noise rules."""
    power = rows_of(runs, MODEL, "power").sort("a", "b", "rate", pl.col("batch").is_null())
    source = rows_of(runs, MODEL, "source").sort("b").with_columns(straight=(pl.col("b") - 1) / pl.col("a"))
    a, rate = source["a"][0], source["rate"][0]
    table = source.select(
        "b",
        exponent="last",
        predicted=pl.min_horizontal("straight", pl.lit(2 - 1 / a)),
        short=1 - pl.col("last") / pl.col("straight"),
    )
    exponents = [
        Exponent(MODEL, "L in t", _setting(row), (row["b"] - 1) / row["a"], row["last"], row["first"])
        for row in power.iter_rows(named=True)
    ]
    claim = Claim("one-pass SGD: exponent in time", "L ~ t^-(b-1)/a", SOURCE, figure="solvable_scaling_exponents")
    place, bracket = crossing(table["b"], table["short"], TOLERANCE)
    where = "nowhere in the sweep" if place is None else f"from b = {place:.3g} on"
    words = (
        f"SGD in one pass falls with the exponent of gradient flow, and at eta tr H = {rate:g} is more than "
        f"{100 * TOLERANCE:g} % short of it {where} (its own noise was predicted to take over at b = 2a = {2 * a:g})"
    )
    low, high = bracket or (float(table["b"].max()), None)
    held = [
        Regime("eta tr H", "", None, float(power["rate"].max()), None, stability_edge(a)),
        Regime("b", "", float(table["b"].min()), low, high, 2 * a),
    ]
    found = [recovered(claim, exponents, TOLERANCE, words, held), _edge(rows_of(runs, MODEL, "edge"))]
    growth = rows_of(runs, MODEL, "edge").select("rate", "growth").drop_nulls()
    return Outcome(found, exponents, {"source_sgd": table, "edge": growth.with_columns(edge=stability_edge(a))})


def _setting(row: dict) -> str:
    noise = "full batch" if row["batch"] is None else f"batch {row['batch']:g}"
    return f"a = {row['a']:g}, b = {row['b']:g}, eta tr H = {row['rate']:g}, {noise}"


def _edge(runs: pl.DataFrame) -> Finding:
    runs = runs.sort("rate").with_columns(growth=pl.col("growth").fill_null(RUNAWAY))
    predicted = stability_edge(runs["a"][0])
    place, bracket = crossing(runs["rate"], runs["growth"], 1.0)
    says = f"The loss falls at every rate of the sweep; predicted to diverge from eta tr H = {predicted:.3g} on."
    if place is not None:
        says = f"The loss grows from eta tr H = {place:.4g} on (batch 1), predicted {predicted:.4g}."
    claim = Claim("one-pass SGD: divergence", "sum eta k^-a / (B (2 - eta (1 + 1/B) k^-a)) = 1", "derived here",
                  kind="identity", role="boundary", figure="solvable_scaling_edge")  # fmt: skip
    low, high = bracket or (float(runs["rate"].max()), None)
    return claim.located([place], bracket, predicted, 1.05, says, [Regime("eta tr H", "", None, low, high, predicted)])
