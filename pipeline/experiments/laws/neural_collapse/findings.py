"""What minima for free features and trained networks say of neural collapse, one finding each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Finding, Regime
from pipeline.experiments.sweep import crossing, estimate_of
from pipeline.experiments.verdict import Claim, Estimate, over_seeds

PAPYAN, FREE = "Papyan, Han and Donoho 2020, arXiv 2008.08186", "Zhu et al. 2021, arXiv 2105.02375; derived here"
EXACT = 1e-5
"""The most that a minimum may miss theory by."""


def of_free_features(free: pl.DataFrame, room: pl.DataFrame, needed: int) -> list[Finding]:
    """Strength and simplex, their ends in r and in d (`needed` by theory), and squared error without a bias."""
    claim = Claim("free features form a simplex", "s, cos = -1 / (K - 1)", FREE, kind="identity",
                  figure="neural_collapse_strength")  # fmt: skip
    space = replace(claim, figure="neural_collapse_space")
    worst = float(free.filter(pl.col("ratio") <= 0.95)["error", "nc1", "cos_off", "nc3"].to_numpy().max())
    known = f"exact to {worst:.1g}" if np.isfinite(worst) else "not known in every run"
    loose = room.filter(kind="with_bias").group_by("dimension").agg(pl.col("cos_off").nan_max()).sort("dimension")
    fits, short = (loose.filter(test)["dimension"] for test in (pl.col("cos_off") < EXACT, pl.col("cos_off") >= EXACT))
    bare = room.filter(kind="no_bias").sort("dimension").row(-1, named=True)
    return [
        claim.at_most(Estimate(worst), EXACT, f"Up to r = 0.95 strength and NC1 to NC3 are {known}."),
        _vanish(free, replace(claim, law="free features vanish", formula="r = 1", role="boundary")),
        replace(space, law="free features have room", formula="d = K - 1", role="boundary").located(
            [fits.min()], fits.min() and (short.max(), fits.min()), needed, 1.1,
            f"The simplex forms from d = {fits.min()} on; K - 1 = {needed}."),
        replace(space, law="free features, no bias", formula="cos = -1 / (K - 1)", role="control").at_most(
            estimate_of(bare, "cos_off"), EXACT, f"Without a bias squared error leaves cos = {bare['cos']:.1g}."),
    ]  # fmt: skip


def _vanish(free: pl.DataFrame, claim: Claim) -> Finding:
    """Where the strength ends, in the run in which that is farthest from r = 1; one that never vanishes counts.

    No mean over runs and no interval: each computes the same number, and its seed is only where the descent starts.
    """
    ends = [crossing(own["ratio"], own["strength"], 1e-3) for _, own in free.group_by("run_id", maintain_order=True)]
    met = [(place, *bracket) for place, bracket in ends if place is not None]
    place, low, high = max(met, key=lambda end: abs(np.log(end[0])), default=(None, None, None))
    beyond = f"at r >= {max(end[2] for end in met):g} " if met else ""
    says = f"All is zero {beyond}in {len(met)} of {len(ends)} runs."
    places, regime = [place, *[None] * (len(ends) - len(met))], Regime("r", "", None, low, high, 1.0)
    return claim.located(places, (low, high) if met else None, 1.0, 1.02, says, [regime])


def collapses(nets: pl.DataFrame, law: str, role: str) -> Finding:
    """Whether the least margin of these networks, its mean over seeds, is at least 1."""
    margin = over_seeds(nets.group_by("seed", maintain_order=True).agg(pl.col("margin").min())["margin"])
    says, reached = f"{nets['right'].mean():.0%} of the examples are right at the end", nets["margin"].null_count() == 0
    if reached:
        falls = ((name, nets[f"{name.lower()}_fall"].median()) for name in ("NC1", "NC2", "NC3"))
        moved = (f"{name} {'falls' if by >= 1 else 'grows'} {max(by, 1 / by):.2g}-fold" for name, by in falls)
        says += f"; {', '.join(moved)} (medians); NC2 ends at {nets['nc2_last'].median():.2g}"
    claim = Claim(law, "fall / fall asked >= 1", PAPYAN, "times what is asked", role=role, figure="neural_collapse_nc1")
    return claim.at_least(margin, 1.0, f"{says}.", reached=reached)
