"""Reading a sweep: slopes in logarithms with their standard errors, where a curve crosses a level, what is worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Finding
from pipeline.experiments.verdict import Estimate, over_seeds

WORST_FIRST = ("violated", "undetermined", "not_reached", "holds")


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The least-squares slope d ln y / d ln x over all points."""
    return float(np.polyfit(np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float)), 1)[0])


def local_slopes(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """(slope of the lower half, slope of the upper half) in x: a difference says that there is no one exponent."""
    order = np.argsort(x)
    x, y, middle = np.asarray(x, float)[order], np.asarray(y, float)[order], len(x) // 2
    return log_slope(x[: middle + 1], y[: middle + 1]), log_slope(x[-middle - 1 :], y[-middle - 1 :])


def slope_over_seeds(runs: pl.DataFrame, x: str, y: str) -> Estimate:
    """d ln y / d ln x, fitted for each value of the column `seed` on its own; mean and standard error over seeds."""
    pairs = (rows.sort(x) for _, rows in runs.drop_nulls([x, y]).group_by("seed", maintain_order=True))
    return over_seeds(log_slope(rows[x], rows[y]) for rows in pairs if rows[x].n_unique() > 1)


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> tuple[float | None, tuple[float, float] | None]:
    """(x where y first crosses `level`, the two x around it), x ascending; (None, None) where it never does.

    Interpolated between the two points linearly in ln x, and in ln y where both are positive. x must be positive.
    """
    order = np.argsort(x)
    x, y = np.asarray(x, dtype=float)[order], np.asarray(y, dtype=float)[order]
    for index in range(len(x) - 1):
        below, above = y[index], y[index + 1]
        if not (np.isfinite(below) and np.isfinite(above)) or (below - level) * (above - level) > 0 or below == above:
            continue
        values = np.array([below, above, level])
        values = np.log(values) if (values > 0).all() else values
        share = (values[2] - values[0]) / (values[1] - values[0])
        place = float(np.exp(np.log(x[index]) + share * np.log(x[index + 1] / x[index])))
        return place, (float(x[index]), float(x[index + 1]))
    return None, None


def crossings_over_seeds(runs: pl.DataFrame, x: str, y: str, level: float) -> dict[int, float | None]:
    """Where y first crosses `level`, for each value of the column `seed` on its own, None where it never does."""
    groups = runs.sort("seed").group_by("seed", maintain_order=True)
    return {seed: crossing(rows[x], rows[y], level)[0] for (seed,), rows in groups}


def mean_over_seeds(runs: pl.DataFrame, by: str | Sequence[str], *columns: str) -> pl.DataFrame:
    """One row a value of `by`, sorted: for each column its mean over the seeds that have one, `<column>_se`, its
    standard error, and `<column>_num`, the number of these seeds."""
    sums = []
    for column in columns:
        sums += [
            pl.col(column).mean(),
            (pl.col(column).std() / pl.col(column).count().sqrt()).alias(f"{column}_se"),
            pl.col(column).count().cast(pl.Int64).alias(f"{column}_num"),
        ]
    return runs.group_by(by).agg(pl.len().alias("num_runs"), *sums).sort(by)


def estimate_of(row: dict, column: str) -> Estimate:
    """The estimate of `column` in a row of `mean_over_seeds`."""
    error = row[f"{column}_se"]
    return Estimate(row[column], math.inf if error is None else error, row[f"{column}_num"])


def greatest(values: Iterable[float | None]) -> Estimate:
    """The greatest of values computed exactly; no value where one of them is missing, which may be the greatest."""
    known = [math.nan if value is None else value for value in values]
    return Estimate(max(known) if known and np.isfinite(known).all() else None)


def worst(findings: Iterable[Finding]) -> Finding:
    """The finding that decides where each member of a claim has one, all by `equals` or all by `at_least`.

    It is the worst verdict, violated before undetermined before holds, and of those the one with the least room: one
    without a value, or else the one whose interval reaches farthest out of its tolerance or below its bound.
    """
    return min(findings, key=lambda one: (WORST_FIRST.index(one.verdict), _room(one)))


def _room(one: Finding) -> float:
    """From the end of the interval to that of the tolerance, in units of it, or to the bound."""
    if one.measured is None or one.error is None:
        return -math.inf
    reach = (one.interval[1] - one.interval[0]) / 2 if one.interval else 0.0
    if one.tolerance is None:
        return one.measured - reach - one.predicted
    return 1 - (abs(one.measured - one.predicted) + reach) / one.tolerance
