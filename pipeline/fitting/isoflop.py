"""IsoFLOP minima from a grid of sizes by token counts, without any law (approach 2 of arXiv 2203.15556).

At a budget C the loss of each size is interpolated in (ln D, ln L) at D = C / (6 N), inside the measured range of D
only. The minimum over N is the vertex of a least-squares parabola in ln N through the sizes around the smallest loss.
Akima interpolation (arXiv 2406.19146) needs five sizes a budget and follows noise; a parabola needs three but is biased
when the sizes lie off-centre (arXiv 2603.22339), so budgets whose smallest loss is at an edge are
refused, as are parabolas that open downwards and vertices outside the sizes used; every refusal carries its reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from pipeline.fitting.forms import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.uncertainty import percentile_interval

FEWEST_SIZES = 3
"""Sizes that must reach a budget before a minimum is looked for: three determine a parabola."""
WINDOW = 5
"""Sizes nearest to the smallest loss that the parabola goes through."""


@dataclass(frozen=True)
class Slice:
    """One budget: C (FLOPs), sizes N (parameters) that reach it, their interpolated loss (nats/token), the optimum.

    `N_star` is None when refused; `reason` then says why.
    """

    C: float
    N: NDArray[np.float64]
    loss: NDArray[np.float64]
    N_star: float | None
    reason: str


@dataclass(frozen=True)
class IsoFlop:
    """All budgets, and the exponent a of N*(C) ~ C^a with its 95 % interval; None with fewer than three minima."""

    slices: list[Slice]
    exponent: float | None
    interval: tuple[float, float] | None

    @property
    def minima(self) -> list[Slice]:
        """The budgets whose minimum was accepted."""
        return [part for part in self.slices if part.N_star is not None]

    @property
    def refused(self) -> list[Slice]:
        """The budgets whose minimum was refused."""
        return [part for part in self.slices if part.N_star is None]


def isoflop(
    N: ArrayLike, D: ArrayLike, L: ArrayLike, noise_sd: float, num_resamples: int, seed: int, num_budgets: int = 12
) -> IsoFlop:
    """The isoFLOP minima of a table of runs (N parameters, D tokens, L nats/token) and the exponent of N*(C).

    The exponent is a least-squares slope of ln N* on ln C over accepted minima. Its interval comes from resampling
    runs in the manner of arXiv 2406.19146: every run's ln L receives fresh noise of sd `noise_sd` and the minima are
    found again; leaving runs out instead would tear holes into the curves that are interpolated.
    """
    sizes, curves = _curves(np.asarray(N, float), np.asarray(D, float), np.log(np.asarray(L, float)))
    if len(sizes) < FEWEST_SIZES:
        return IsoFlop([], None, None)
    budgets = _budgets(sizes, curves, num_budgets)
    random = np.random.default_rng(seed)
    measured = [(log_D, log_L[:, None]) for log_D, log_L in curves]
    noisy = [(x, y[:, None] + noise_sd * random.standard_normal((len(y), num_resamples))) for x, y in curves]
    values, drawn = _interpolate(sizes, measured, budgets), _interpolate(sizes, noisy, budgets)
    slices, draws = [], np.full((len(budgets), num_resamples), np.nan)
    for index, C in enumerate(budgets):
        inside = ~np.isnan(values[:, index, 0])
        log_N, log_L = np.log(sizes[inside]), values[inside, index, 0]
        if len(log_N) < FEWEST_SIZES:
            N_star, reason = None, f"{len(log_N)} sizes reach this budget, {FEWEST_SIZES} are needed"
        else:
            vertex, reason = parabola_minimum(log_N, log_L)
            N_star = None if reason else float(np.exp(vertex))
        slices.append(Slice(float(C), sizes[inside], np.exp(log_L), N_star, reason))
        if N_star is not None:
            found = [parabola_minimum(log_N, column) for column in drawn[inside, index].T]
            draws[index] = [np.nan if why else vertex for vertex, why in found]
    log_C = np.log(budgets)
    point = np.array([np.nan if part.N_star is None else np.log(part.N_star) for part in slices])
    exponent = _slope(log_C, point)
    slopes = [_slope(log_C, column) for column in draws.T] if exponent is not None else []
    known = np.array([slope for slope in slopes if slope is not None])
    return IsoFlop(slices, exponent, percentile_interval(known) if len(known) > 0.5 * num_resamples else None)


def parabola_minimum(log_N: NDArray, log_L: NDArray, window: int = WINDOW) -> tuple[float, str]:
    """(ln N*, "") or (nan, reason): the vertex of the parabola through the sizes nearest to the smallest loss."""
    order = np.argsort(log_N)
    log_N, log_L = log_N[order], log_L[order]
    least = int(np.argmin(log_L))
    if least in (0, len(log_N) - 1):
        return np.nan, f"the smallest loss is at the {'smallest' if least == 0 else 'largest'} size that reaches it"
    start = int(np.clip(least - window // 2, 0, max(0, len(log_N) - window)))
    x, y = log_N[start : start + window], log_L[start : start + window]
    curvature, slope, _ = np.linalg.lstsq(np.vander(x - x.mean(), 3), y, rcond=None)[0]
    if curvature <= 0:
        return np.nan, "the parabola opens downwards"
    vertex = x.mean() - slope / (2 * curvature)
    if not x[0] <= vertex <= x[-1]:
        return np.nan, "the vertex of the parabola lies outside the sizes it was fitted to"
    return float(vertex), ""


def _curves(N: NDArray, D: NDArray, log_L: NDArray) -> tuple[NDArray, list[tuple[NDArray, NDArray]]]:
    """Sizes with at least three token counts, and for each its (ln D, mean ln L over seeds) in rising order of D."""
    sizes, curves = [], []
    for size in np.unique(N):
        here = N == size
        tokens, member = np.unique(D[here], return_inverse=True)
        if len(tokens) >= 3:
            sizes.append(size)
            curves.append((np.log(tokens), np.bincount(member, log_L[here]) / np.bincount(member)))
    return np.array(sizes), curves


def _budgets(sizes: NDArray, curves: list[tuple[NDArray, NDArray]], num_budgets: int) -> NDArray:
    """Budgets even in ln C between the first and the last that FEWEST_SIZES sizes reach; all of the range if none."""
    low = np.sort([np.log(FLOPS_PER_PARAMETER_TOKEN * n) + x[0] for n, (x, _) in zip(sizes, curves, strict=True)])
    high = np.sort([np.log(FLOPS_PER_PARAMETER_TOKEN * n) + x[-1] for n, (x, _) in zip(sizes, curves, strict=True)])
    first, last = low[FEWEST_SIZES - 1], high[-FEWEST_SIZES]
    if first >= last:
        first, last = low[0], high[-1]
    return np.exp(np.linspace(first, last, num_budgets))


def _interpolate(sizes: NDArray, curves: list[tuple[NDArray, NDArray]], budgets: NDArray) -> NDArray:
    """ln L (sizes, budgets, columns) on C = 6 N D, nan outside the measured D of a size."""
    table = np.full((len(sizes), len(budgets), curves[0][1].shape[1]), np.nan)
    for row, (size, (log_D, log_L)) in enumerate(zip(sizes, curves, strict=True)):
        wanted = np.log(budgets / (FLOPS_PER_PARAMETER_TOKEN * size))
        slack = 1e-9
        inside = (wanted >= log_D[0] - slack) & (wanted <= log_D[-1] + slack)
        if inside.any():
            table[row, inside] = CubicSpline(log_D, log_L)(np.clip(wanted[inside], log_D[0], log_D[-1]))
    return table


def _slope(log_C: NDArray, log_N: NDArray) -> float | None:
    known = ~np.isnan(log_N)
    if known.sum() < 3:
        return None
    x = log_C[known] - log_C[known].mean()
    return float(x @ log_N[known] / (x @ x))
