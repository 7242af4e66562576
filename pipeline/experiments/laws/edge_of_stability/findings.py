"""What runs at the edge of stability say: whether the sharpness settles past it, and where its regime ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Finding, Regime
from pipeline.experiments.sweep import crossing
from pipeline.experiments.verdict import Claim, Estimate, over_seeds
from pipeline.reporting.numbers import decimal

COHEN, CATAPULT = "Cohen et al. 2021, arXiv 2103.00065", "Lewkowycz et al. 2020, arXiv 2003.02218"
NAME = "edge_of_stability"


def fate() -> pl.Expr:
    """What became of a run past the edge, null for any other; `unknown` also where nothing says that it is not past."""
    past = (
        pl.col("rho").fill_null(np.inf) > 1,
        pl.col("multiple").fill_null(0.0) < 1,
        pl.col("before").fill_null(np.inf) > 1,
    )
    settled = pl.when(pl.col("ratio").is_finite()).then(pl.lit("settled")).otherwise(pl.lit("unknown"))
    known = pl.when("lost").then(pl.lit("diverged")).otherwise(settled)
    return pl.when(*past).then(pl.when(pl.col("rho").is_null()).then(pl.lit("unknown")).otherwise(known))


def ratio(at: pl.DataFrame) -> Estimate:
    """The sharpness in units of the edge, its mean over a seed's runs, then over seeds."""
    return over_seeds(own["ratio"].mean() for _, own in at.group_by("seed", maintain_order=True))


def settles(past: pl.DataFrame, law: str, formula: str) -> Finding:
    """Whether the ratio of the runs past the edge is 1 within 3 %.

    A run that diverges violates it. It does not hold where a seed, or more than half of the runs, have no value.
    """
    at, lost, none = (past.filter(fate=fate) for fate in ("settled", "diverged", "unknown"))
    measured, broke = ratio(at), lost["rho"].min()
    says = (f"Of {len(past)} runs past the edge {len(lost)} diverged and {len(none)} gave no value; the sharpness of "
            f"the others settles at {decimal(measured.value, 4)} of it.")  # fmt: skip
    held = at.filter(pl.col("rho") < (broke or np.inf))["rho"]
    regime = [Regime("rho", "", held.min(), held.max(), broke, 1.0)]
    claim = Claim(law, formula, COHEN, "edges", figure=f"{NAME}_ratio")
    found = claim.equals(measured, 1.0, 0.03, says, regime, not past.is_empty())
    few = at["seed"].n_unique() < past["seed"].n_unique() or 2 * len(none) > len(past)
    if len(lost) or (few and found.verdict == "holds"):
        return replace(found, verdict="violated" if len(lost) else "undetermined")
    return found


def end_of(rows: pl.DataFrame, x: str, y: str, level: float, predicted: float, law: str, formula: str, source: str,
           figure: str, says: str) -> Finding:  # fmt: skip
    """Where y crosses `level`, found for each seed; the geometric mean over the seeds that meet it."""
    seeds = (own.drop_nulls([x, y]) for _, own in rows.group_by("seed", maintain_order=True))
    ends = [crossing(own[x], own[y], level) for own in seeds]
    met, places = [(place, *bracket) for place, bracket in ends if place is not None], [place for place, _ in ends]
    claim = Claim(f"edge of stability: {law}", formula, source, role="boundary", figure=f"{NAME}_{figure}")
    if not met:
        return claim.located(places, None, predicted, 1.25, "No seed met this end of the regime.")
    place, low, high = np.exp(np.log(met).mean(axis=0)).tolist()
    says = f"{says.format(place)}, the mean of {len(met)} of {len(ends)} seeds; predicted {predicted:g}."
    regime = [Regime(x, "", None, low, high, predicted)]
    return claim.located(places, (low, high), predicted, 1.25, says, regime)
