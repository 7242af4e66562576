"""The lower envelope of loss against compute and its exponent (approach 1 of arXiv 2203.15556).

At every budget C each size's loss is interpolated linearly in (ln D, ln L) at D = C / (6 N), inside what was measured
of a curve, and the size with the least loss is N*(C). A curve is one size's finished runs, or one training curve.

Known pitfalls. The envelope is a minimum, so it picks noise troughs: its loss is biased low, by more where many curves
are close. Points along a training curve stand for finished runs only if the learning rate had decayed by then; a
schedule longer than the horizon makes them too high and bends N*(C) (arXiv 2203.15556, section 3.1). And N* takes
measured sizes only, K of them in turn. The slope of an even staircase is low by 1 / K^2 of itself where its first and
last turn are whole, and high by 1 / (2 (K - 1)^2) where they are halves. Refused budgets, those whose best size is the
first or last that reaches them, cut both turns short, so on grids without noise it is mostly high: by up to 10 % with
four turns, 3 % with seven, 1 % with thirteen. To leave both turns out makes it low by 1 / (K - 2)^2; a line through the
steps alone has no such bias, but with few turns more noise than that.

Budgets are not independent data, one curve serves many of them, so the interval resamples whole sizes: the envelope
is an extreme statistic that single sizes can move (arXiv 2502.06857). It is wide where sizes are few, since leaving one
out coarsens the staircase; where they are many and close it is too narrow unless the noise is resampled too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.intervals import percentile_interval
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, positive_columns

FEWEST_SIZES = 3
"""Sizes that must reach a budget: with two, either is at an edge."""
FEWEST_TURNS = 3
"""Different sizes that must take their turn on the envelope before it has a slope: two make one step."""
SLACK = 1e-9
"""Relative slack of D at the ends of a curve, for the rounding of floats."""


@dataclass(frozen=True)
class Envelope:
    """The accepted budgets, the size and tokens of least loss there, and the exponent a of N*(C) ~ C^a.

    C in FLOPs, N_star in parameters, D_star in tokens, loss in nats/token, all of shape (accepted budgets,) and rising
    in C. `exponent` is None when fewer than three sizes take turns, `interval` (95 %) also when most resamples had
    none. `refused` holds every other budget with its reason.
    """

    C: NDArray[np.float64]
    N_star: NDArray[np.float64]
    D_star: NDArray[np.float64]
    loss: NDArray[np.float64]
    exponent: float | None
    interval: tuple[float, float] | None
    refused: list[tuple[float, str]]


def envelope(
    N: ArrayLike,
    D: ArrayLike,
    L: ArrayLike,
    num_resamples: int,
    seed: int,
    *,
    curve: ArrayLike | None = None,
    noise_sd: float = 0.0,
    num_budgets: int = 200,
) -> Envelope:
    """The envelope of runs or of training curves: rows of N parameters, D tokens (seen), L nats/token.

    `curve` labels the rows of one training curve; several may have one size. None when every row is a finished run,
    and a size's runs, averaged over seeds in ln L, make up its curve. The exponent is a least-squares slope of ln N* on
    ln C over the accepted ones of `num_budgets` budgets even in ln C. Its interval draws sizes with replacement, all
    of a size's rows together; with `noise_sd`, the sd of one run's ln L, each draw also gets fresh noise, shared along
    a training curve. Raises ValueError when a value is not finite and positive, or a curve has two sizes.
    """
    N, D, L = positive_columns(N=N, D=D, L=L)
    if not (np.isfinite(noise_sd) and noise_sd >= 0):
        raise ValueError(f"noise_sd: {noise_sd} is not a number of zero or more")
    if num_budgets < FEWEST_TURNS:
        raise ValueError(f"num_budgets: {num_budgets} budgets have no slope; {FEWEST_TURNS} are needed")
    curves = _curves(N, D, np.log(L), curve)
    sizes = np.unique(N)
    budgets = np.geomspace((N * D).min(), (N * D).max(), num_budgets) * FLOPS_PER_PARAMETER_TOKEN
    fixed = [np.zeros((len(x), 1)) for _, x, _, _ in curves]
    log_L, reasons, least = _envelopes(sizes, _losses(sizes, curves, fixed, budgets))
    log_L, reasons, least = log_L[:, 0], reasons[:, 0], least[:, 0]
    kept = reasons == ""
    slope = _slope(np.log(budgets), np.log(sizes)[least], kept)
    draws = _draws(sizes, curves, budgets, num_resamples, noise_sd, curve is not None, seed) if slope else []
    known = [draw for draw in draws if draw is not None]
    N_star = sizes[least[kept]]
    return Envelope(
        C=budgets[kept],
        N_star=N_star,
        D_star=budgets[kept] / (FLOPS_PER_PARAMETER_TOKEN * N_star),
        loss=np.exp(log_L[kept]),
        exponent=slope,
        interval=percentile_interval(np.array(known)) if 2 * len(known) > max(1, num_resamples) else None,
        refused=[(float(C), str(why)) for C, why in zip(budgets[~kept], reasons[~kept], strict=True)],
    )


def _curves(N: NDArray, D: NDArray, log_L: NDArray, curve: ArrayLike | None) -> list[tuple[float, ...]]:
    """(N, ln D rising, mean ln L at each, its number of seeds) for each curve."""
    labels = N if curve is None else np.asarray(curve)
    if labels.shape != N.shape:
        raise ValueError(f"curve: {labels.shape} labels for {N.shape} rows")
    found = []
    for label in np.unique(labels):
        here = labels == label
        if len(np.unique(N[here])) > 1:
            raise ValueError(f"curve: {label} has sizes {np.unique(N[here]).tolist()}; a curve has one size")
        tokens, member = np.unique(D[here], return_inverse=True)
        count = np.bincount(member)
        found.append((float(N[here][0]), np.log(tokens), np.bincount(member, log_L[here]) / count, count))
    return found


def _losses(sizes: NDArray, curves: list[tuple], noise: list[NDArray], budgets: NDArray) -> NDArray:
    """ln L (sizes, budgets, draws), the least of a size's curves, infinite where none was measured."""
    table = np.full((len(sizes), len(budgets), noise[0].shape[1]), np.inf)
    for (size, log_D, log_L, _), shift in zip(curves, noise, strict=True):
        wanted = np.log(budgets / (FLOPS_PER_PARAMETER_TOKEN * size))
        inside = np.flatnonzero((wanted >= log_D[0] - SLACK) & (wanted <= log_D[-1] + SLACK))
        right = np.clip(np.searchsorted(log_D, wanted[inside]), min(1, len(log_D) - 1), len(log_D) - 1)
        left = np.maximum(right - 1, 0)
        width = np.where(right > left, log_D[right] - log_D[left], 1.0)
        part = np.clip((wanted[inside] - log_D[left]) / width, 0.0, 1.0)[:, None]
        values = log_L[:, None] + shift
        row = np.searchsorted(sizes, size)
        table[row, inside] = np.minimum(table[row, inside], (1 - part) * values[left] + part * values[right])
    return table


def _envelopes(sizes: NDArray, table: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """(least ln L, reason or "", which size), each (budgets, draws), of ln L (sizes, budgets, draws)."""
    reached, least = np.isfinite(table), table.argmin(axis=0)
    first, last = reached.argmax(axis=0), len(sizes) - 1 - reached[::-1].argmax(axis=0)
    count = reached.sum(axis=0)
    at = "the smallest loss is at the {} size that reaches it"
    few = [f"{k} sizes reach this budget, {FEWEST_SIZES} are needed" for k in range(FEWEST_SIZES)]
    cases = [count == k for k in range(FEWEST_SIZES)] + [least == first, least == last]
    reasons = np.select(cases, [*few, at.format("smallest"), at.format("largest")], "")
    return np.take_along_axis(table, least[None], axis=0)[0], reasons, least


def _draws(
    sizes: NDArray, curves: list[tuple], budgets: NDArray, num_draws: int, noise_sd: float, shared: bool, seed: int
) -> list[float | None]:
    """Slopes with sizes drawn with replacement (repeats do not change a minimum) and fresh noise, None without one."""
    random, noise = np.random.default_rng(seed), []
    for _, log_D, _, count in curves:
        shape = (1 if shared else len(log_D), num_draws)
        drawn = noise_sd * random.standard_normal(shape) / np.sqrt(1 if shared else count[:, None])
        noise.append(np.broadcast_to(drawn, (len(log_D), num_draws)))
    table = _losses(sizes, curves, noise, budgets)
    for draw in range(num_draws):
        absent = np.setdiff1d(np.arange(len(sizes)), random.integers(0, len(sizes), len(sizes)))
        table[absent, :, draw] = np.inf
    _, reasons, least = _envelopes(sizes, table)
    log_C, log_N_star = np.log(budgets), np.log(sizes)[least]
    return [_slope(log_C, log_N_star[:, draw], reasons[:, draw] == "") for draw in range(num_draws)]


def _slope(log_C: NDArray, log_N_star: NDArray, kept: NDArray) -> float | None:
    if len(np.unique(log_N_star[kept])) < FEWEST_TURNS:
        return None
    x = log_C[kept] - log_C[kept].mean()
    return float(x @ log_N_star[kept] / (x @ x))
