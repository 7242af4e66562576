"""Whether the weight decay is the clock of grokking: t ~ 1 / (rate x decay), and the decay at which that ends."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl

from pipeline.experiments.experiment import Finding, Regime
from pipeline.experiments.sweep import crossing, slope_over_seeds
from pipeline.experiments.verdict import Claim
from pipeline.reporting.numbers import significant

TRUONG = "Truong et al. 2026, arXiv 2605.18845"


def with_clock(runs: pl.DataFrame, least: float) -> pl.DataFrame:
    """The runs with `clock`, rate x decay x t; `kept`, that over its value at the decay `least`; `kept_at_least`, the
    same for a run that has not grokked by its last step: its t is that step or later."""
    ticks, reached = pl.col("decay") * pl.col("rate"), pl.col("t_test")
    waited = pl.coalesce(reached, pl.when(status="finished").then("num_steps"))
    start = (ticks * reached).filter((pl.col("decay") == least) & (pl.col("kind") == "decay")).first().over("seed")
    return runs.with_columns(clock=ticks * reached, kept=ticks * reached / start, kept_at_least=ticks * waited / start)


def of_clock(seeds: list[int], decays: list[float], swept: dict[str, pl.DataFrame], left: float) -> list[Finding]:
    """t goes as 1 / decay, and at the smallest decay as 1 / rate; where decay x t is `left` times its value there."""
    found, (least, decay) = [], decays[:2]
    few = swept["decay"].filter(pl.col("decay") <= decay)
    for name, rows in (("decay", few), ("rate", pl.concat([few.filter(pl.col("decay") == least), swept["rate"]]))):
        slope, low, high = slope_over_seeds(rows, name, "t_test"), rows[name].min(), rows[name].max()
        claim = Claim(f"time to grok against {name}", f"t ~ 1 / {name}", TRUONG, "slope", figure="grokking_decay")
        says = f"From {name} {low:g} to {high:g} the time t goes as {name}^{significant(slope.value)}."
        found.append(
            claim.equals(slope, -1.0, 0.3, says, [Regime(name, "", low, high)], not rows["t_test"].has_nulls())
        )
    predicted = 1 / (few.filter(pl.col("decay") == least)["q95"].mean() or math.inf)
    ends = [_end(swept["decay"].filter(seed=seed).sort("decay"), left) for seed in seeds]
    return [*found, _located(ends, least, left, predicted)]


def _end(own: pl.DataFrame, left: float) -> tuple[float | None, tuple[float, float] | None]:
    """Where one seed's clock is `left` times its first value, and the two decays around: not beyond a decay at which
    the run ended before either could be seen."""
    seen = (pl.col("kept").is_not_null() | (pl.col("kept_at_least") >= left)).fill_null(False)
    own = own.filter((~seen).cum_sum() == 0)
    return crossing(own["decay"], own["kept_at_least"], left)


def _located(ends: list, least: float, left: float, predicted: float) -> Finding:
    claim = Claim("time to grok: end of the clock", "decay = 1 / q95(weights)", "derived here", "decay", "regularity",
                  "boundary", "grokking_decay")  # fmt: skip
    cells = [bracket for _, bracket in ends if bracket]
    first = min(cells, default=None)
    regime = Regime("decay", "", least, *(first or (None, None)), predicted)
    found = claim.located([place for place, _ in ends], first, predicted, 1.5, "", [regime])
    at = f" at {significant(found.measured)}, the mean of" if cells else ", over the sweep, in"
    says = (f"decay x t is {left:g} times that at decay {least:g}{at} {len(cells)} of {len(ends)} seeds; predicted at "
            f"{predicted:.3g}.")  # fmt: skip
    return replace(found, statement=says)
