"""From which scale on a law holds: subsets with a lower cut-off in N and D, and the convexity of the loss surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.lack_of_fit import LackOfFit, lack_of_fit
from pipeline.fitting.laws.law import Law, log_losses
from pipeline.fitting.minima import minimise
from pipeline.fitting.points import LARGE, Points, cells, evenly, spread_levels
from pipeline.fitting.solver import Fit, log_gradients
from pipeline.fitting.starts import starting_points
from pipeline.fitting.tree_noise import TreeNoise

FEWEST_SPARE = 3
"""Cells beyond the number of parameters that a subset must keep."""
FEWEST_LEVELS = 4
"""Sizes, and token counts, that a subset must keep before a law is said to hold on it."""
CUTOFF_RUNS = 4_000
"""Of a table of more than LARGE runs, so many, evenly spaced, are refitted on each subset."""
CUTOFF_STEPS = 120
"""Steps of such a fit. A third of the subsets of a large study is so flat that it would take any number of them."""


@dataclass(frozen=True)
class Subset:
    """A law refitted to runs with N >= N_min parameters and D >= D_min tokens, and its lack of fit there."""

    N_min: float
    D_min: float
    num_sizes: int
    num_tokens: int
    num_points: int
    theta: NDArray[np.float64]
    rms: float
    lack_of_fit: LackOfFit | None


def cutoffs(
    whole: Fit,
    N: NDArray,
    D: NDArray,
    sd: float,
    noise_freedom: int | None = None,
    num_levels: int = 12,
    num_starts: int = 6,
) -> list[Subset]:
    """The law refitted to every subset N >= N_min, D >= D_min that is large enough, sorted by (N_min, D_min).

    Large enough: FEWEST_LEVELS sizes and token counts, and FEWEST_SPARE cells beyond the parameters. At most
    `num_levels` values of each lower bound are tried, spread over those measured. Of more than LARGE runs CUTOFF_RUNS
    are refitted, from the whole fit alone; tests and residuals are always those of all runs of a subset.
    """
    cell, size, count = cells(N, D), cells(N), cells(D)
    num_parameters = len(whole.theta)
    chosen = []
    for N_min in spread_levels(N, num_levels):
        for D_min in spread_levels(D, num_levels):
            kept = (N >= N_min) & (D >= D_min)
            sizes, tokens, num_cells = (
                int(np.count_nonzero(np.bincount(label[kept]))) for label in (size, count, cell)
            )
            if min(sizes, tokens) >= FEWEST_LEVELS and num_cells >= num_parameters + FEWEST_SPARE:
                chosen.append((float(N_min), float(D_min), sizes, tokens, kept))
    if not chosen:
        return []
    large = len(whole.points) > LARGE
    look = evenly(min(CUTOFF_RUNS, len(N)), D, N) if large else np.arange(len(N))
    points, starts = whole.points.subset(look), whole.theta[None]
    if not large:
        starts = np.concatenate([starts, starting_points(whole.form, whole.points, num_starts)])
    weights = np.array([kept[look] for *_, kept in chosen], float) * points.weights
    minima = minimise(
        whole.form,
        points,
        np.tile(starts, (len(chosen), 1)),
        whole.estimator,
        np.repeat(weights, len(starts), axis=0),
        max_steps=CUTOFF_STEPS,
    )
    objective = minima.objective.reshape(len(chosen), len(starts))
    theta = minima.theta.reshape(len(chosen), len(starts), -1)[np.arange(len(chosen)), objective.argmin(axis=1)]
    return [
        _tested(whole.form, whole.points.subset(kept), cell[kept], theta[row], bounds, sd, noise_freedom)
        for row, (*bounds, kept) in enumerate(chosen)
    ]


def _tested(
    form: type[Law], points: Points, cell: NDArray, theta: NDArray, bounds: list, sd: float, noise_freedom: int | None
) -> Subset:
    residuals = points.log_L - log_losses(form, theta[None], points.at)[0]
    noise = TreeNoise.independent(sd, len(points))
    return Subset(
        *bounds,
        num_points=len(points),
        theta=theta,
        rms=float(np.sqrt(np.average(residuals**2, weights=points.weights))),
        lack_of_fit=lack_of_fit(residuals, log_gradients(form, theta, points.at), cell, noise, sd, noise_freedom),
    )


def largest_accepted(subsets: list[Subset], N_floor: float, D_floor: float, level: float = 0.05) -> Subset | None:
    """The subset with most runs among those at or above both floors whose lack-of-fit p exceeds `level`.

    Ties go to the larger p. None when no subset is accepted.
    """
    accepted = [
        subset
        for subset in subsets
        if subset.N_min >= N_floor and subset.D_min >= D_floor and subset.lack_of_fit and subset.lack_of_fit.p > level
    ]
    return max(accepted, key=lambda subset: (subset.num_points, subset.lack_of_fit.p), default=None)


@dataclass(frozen=True)
class Bend:
    """Three neighbouring values of one variable at a fixed other one, and how the local exponent changes there.

    `variable` is "N" or "D"; `low`, `middle`, `high` are its values, `fixed` the other's. Exponents are -d ln L / d ln
    variable below and above `middle`; a law that is a sum of falling powers needs above <= below. `z` is
    (above - below) / its standard error.
    """

    variable: str
    fixed: float
    low: float
    middle: float
    high: float
    exponent_below: float
    exponent_above: float
    z: float


def convexity(N: NDArray, D: NDArray, L: NDArray, sd_along_N: float, sd_along_D: float) -> list[Bend]:
    """Every change of local exponent along N at fixed D and along D at fixed N, on means over seeds.

    Noise: relative sd between trees along N (its neighbours are different trees), within a tree along D. For step
    widths h1, h2 the variance of the change is sd^2 (1/h1^2 + (1/h1 + 1/h2)^2 + 1/h2^2), 6 sd^2 / h^2 when equal.
    """
    cell = cells(N, D)
    first = np.unique(cell, return_index=True)[1]
    log_L = np.bincount(cell, np.log(L)) / np.bincount(cell)
    N, D = N[first], D[first]
    bends = []
    for variable, moving, fixed, sd in (("N", N, D, sd_along_N), ("D", D, N, sd_along_D)):
        order = np.lexsort((moving, fixed))
        low, middle, high = order[:-2], order[1:-1], order[2:]
        level = fixed[low] == fixed[high]
        low, middle, high = low[level], middle[level], high[level]
        h1, h2 = np.log(moving[middle] / moving[low]), np.log(moving[high] / moving[middle])
        below, above = (log_L[low] - log_L[middle]) / h1, (log_L[middle] - log_L[high]) / h2
        error = sd * np.sqrt(1 / h1**2 + (1 / h1 + 1 / h2) ** 2 + 1 / h2**2)
        columns = (fixed[low], moving[low], moving[middle], moving[high], below, above, (above - below) / error)
        bends += [Bend(variable, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return bends


def convex_floor(bends: list[Bend], variable: str, threshold: float = 2.0) -> float | None:
    """The smallest value of `variable` above every bend where the local exponent rises, None if it never does.

    A bend counts when its z averaged over the other variable exceeds `threshold`; averaging z without dividing by
    sqrt(n) treats the noise along the other variable as fully shared, as it is when it comes from whole trees.
    """
    score: dict[tuple[float, float], list[float]] = {}
    for bend in bends:
        if bend.variable == variable:
            score.setdefault((bend.low, bend.middle), []).append(bend.z)
    broken = [middle for (_, middle), z in score.items() if np.mean(z) > threshold]
    return max(broken, default=None)
