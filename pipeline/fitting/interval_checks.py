"""What a user must be told of intervals: parameters left open, wild or unfinished resamples, clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from pipeline.fitting.checks import Caution
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import FEWEST_FOR_INTERVALS, Fit
from pipeline.fitting.uncertainty import Bootstrap

ALIKE_LEVEL = 0.01
ROUNDING = 1e-12
"""Residuals of ln L this small are rounding."""
MOST_UNREACHED = 0.01
"""Share of resamples that may end without a minimum before it is told."""
OPEN_FACTOR = 5.0
"""A parameter without a unit is undetermined when the ends of its 95 % interval differ by more than this factor."""
WITHOUT_UNITS = ("E", "alpha", "beta", "gamma", "q", "c", "c0", "c1", "alpha_N", "alpha_D", "R_D", "R_N", "m_N", "m_D")
"""Parameters whose allowed range is the same for every unit of N and D."""


def interval_cautions(fit: Fit, draws: Bootstrap) -> list[Caution]:
    """Which parameters the runs leave open: their 95 % interval is very wide or reaches the edge of the search; which
    standard errors a few resamples decide; and whether refits did not end."""
    found, intervals, errors = [], draws.intervals(), draws.standard_errors()
    wild = [name for name, (low, high) in intervals.items() if errors[name] > high - low]
    for name in fit.form.parameters():
        if name not in WITHOUT_UNITS or fit.form.signs.get(name) == "any":
            continue
        scale = fit.points.typical_loss if name in fit.form.scaled else 1.0
        low, high = sorted(abs(end) for end in intervals[name])
        edges = [scale * edge for edge in fit.form.limits[name]]
        near = 1e-6 if name == "E" else 0.01  # E may well be close to the least measured loss
        if low <= 1.01 * edges[0] or high >= (1 - near) * edges[1] or high > OPEN_FACTOR * low:
            found.append(f"{name} [{low:.3g}, {high:.3g}]")
    cautions = []
    if found:
        cautions.append(
            Caution(
                "undetermined",
                f"the 95 % interval of {', '.join(found)} spans more than a factor of {OPEN_FACTOR:g} or reaches the "
                "edge of the range that was searched: these runs do not determine it, nor the rest of its term",
            )
        )
    if wild:
        cautions.append(
            Caution(
                "wild_resamples",
                f"the standard error of {', '.join(wild)} is larger than the whole 95 % interval: a few resamples "
                "decide it; go by the interval",
            )
        )
    if draws.unreached > MOST_UNREACHED * len(draws.theta):
        cautions.append(
            Caution(
                "unreached_resamples",
                f"{draws.unreached} of {len(draws.theta)} refits ended before a flat minimum: intervals are uncertain",
            )
        )
    return cautions


def cluster_cautions(fit: Fit, runs: Runs, clusters: NDArray | None) -> list[Caution]:
    """Whether there are clusters enough for intervals by them; where none were named, whether sizes look like some."""
    if clusters is None:
        return _alike(fit, runs)
    if enough_clusters(fit, clusters):
        return []
    number, k = len(np.unique(clusters)), len(fit.theta)
    text = (
        f"{number} clusters leave no interval for {k} parameters, at least {k + FEWEST_FOR_INTERVALS} would: intervals "
        "are by (N, D) cells, and too narrow where the runs of a cluster are alike"
    )
    return [Caution("few_clusters", text)]


def _alike(fit: Fit, runs: Runs) -> list[Caution]:
    """Whether residuals differ between sizes by more than within them: a one-way F test of residuals by N."""
    kept = fit.inliers
    residuals, (sizes, size) = fit.residuals[kept], np.unique(runs.N[kept], return_inverse=True)
    between, within = len(sizes) - 1, len(residuals) - len(sizes)
    if not fit.identified or between < 2 or within < FEWEST_FOR_INTERVALS:
        return []
    count = np.bincount(size)
    means = np.bincount(size, residuals) / count
    inside = float(np.sum((residuals - means[size]) ** 2)) / within
    apart = float(count @ (means - residuals.mean()) ** 2) / between
    if not inside > ROUNDING**2:
        return []
    p = float(fdtrc(between, within, apart / inside))
    if p > ALIKE_LEVEL:
        return []
    text = (
        f"runs of one size lie on one side of the law (F test of residuals by N, p = {p:.1e}): they share a trunk or "
        "the order of the data, or the law misses sizes; intervals take runs as independent and are too narrow then: "
        "name what is shared by --cluster"
    )
    return [Caution("alike_within_size", text)]


def enough_clusters(fit: Fit, clusters: NDArray | None) -> bool:
    """Whether clusters (n,) can be resampled: with fewer, most draws determine no law, or all of them the same one."""
    return clusters is not None and len(np.unique(clusters)) >= len(fit.theta) + FEWEST_FOR_INTERVALS
