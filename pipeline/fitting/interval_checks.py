"""What a user must be told of intervals: parameters that runs leave open, wild resamples, too few clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.checks import Caution
from pipeline.fitting.solver import FEWEST_FOR_INTERVALS, Fit
from pipeline.fitting.uncertainty import Bootstrap

OPEN_FACTOR = 5.0
"""A parameter without a unit is undetermined when the ends of its 95 % interval differ by more than this factor."""
WITHOUT_UNITS = ("E", "alpha", "beta", "gamma", "q", "c", "c0", "c1", "alpha_N", "alpha_D", "R_D", "R_N", "m_N", "m_D")
"""Parameters whose allowed range is the same for every unit of N and D."""


def interval_cautions(fit: Fit, draws: Bootstrap) -> list[Caution]:
    """Which parameters the runs leave open: their 95 % interval is very wide or reaches the edge of the search; and
    which standard errors a few resamples decide."""
    found, intervals, errors = [], draws.intervals(), draws.standard_errors()
    wild = [name for name, (low, high) in intervals.items() if errors[name] > high - low]
    for name in fit.form.parameters():
        if name not in WITHOUT_UNITS or fit.form.signs.get(name) == "any":
            continue
        scale = fit.points.least_loss if name in fit.form.scaled else 1.0
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
    return cautions


def cluster_cautions(fit: Fit, clusters: NDArray | None) -> list[Caution]:
    """Whether there are clusters enough for intervals by them."""
    if clusters is None or enough_clusters(fit, clusters):
        return []
    number, k = len(np.unique(clusters)), len(fit.theta)
    text = (
        f"{number} clusters leave no interval for {k} parameters, at least {k + FEWEST_FOR_INTERVALS} would: intervals "
        "are by (N, D) cells, and too narrow where the runs of a cluster are alike"
    )
    return [Caution("few_clusters", text)]


def enough_clusters(fit: Fit, clusters: NDArray | None) -> bool:
    """Whether clusters (n,) can be resampled: with fewer, most draws determine no law, or all of them the same one."""
    return clusters is not None and len(np.unique(clusters)) >= len(fit.theta) + FEWEST_FOR_INTERVALS
