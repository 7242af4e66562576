"""The compute-optimal frontier of a fitted law: N*(C), D*(C), tokens per parameter and loss, each with a band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.uncertainty import Bootstrap


@dataclass(frozen=True)
class Frontier:
    """Least loss on C = 6 N D: one entry a budget; `low` and `high` are 95 % bands by resampling runs.

    C in FLOPs, N_star in parameters, D_star in tokens, loss in nats/token. The band of the loss is that of the law at
    the law's own optimum; it says nothing about whether the law still holds there.
    """

    C: NDArray[np.float64]
    N_star: NDArray[np.float64]
    N_low: NDArray[np.float64]
    N_high: NDArray[np.float64]
    D_star: NDArray[np.float64]
    D_low: NDArray[np.float64]
    D_high: NDArray[np.float64]
    loss: NDArray[np.float64]
    loss_low: NDArray[np.float64]
    loss_high: NDArray[np.float64]

    @property
    def tokens_per_parameter(self) -> NDArray[np.float64]:
        """D* / N* at each budget."""
        return self.D_star / self.N_star

    @property
    def tokens_per_parameter_interval(self) -> tuple[NDArray, NDArray]:
        """The 95 % band of D* / N* = C / (6 N*^2), which falls as N* rises."""
        scale = self.C / FLOPS_PER_PARAMETER_TOKEN
        return scale / self.N_high**2, scale / self.N_low**2


def frontier(law: Law, draws: Bootstrap, C: ArrayLike) -> Frontier:
    """The frontier of `law` at budgets C (FLOPs), with bands from the resampled laws in `draws`."""
    C = np.asarray(C, float)
    if not (np.isfinite(C).all() and (C > 0).all()):
        raise ValueError(f"C: {C.min()} is not a positive number of FLOPs")
    N_star, N_draws = law.optimal_size(C), draws.optimal_size(C)
    D_star, D_draws = C / (FLOPS_PER_PARAMETER_TOKEN * N_star), C / (FLOPS_PER_PARAMETER_TOKEN * N_draws)
    loss = law.loss(N_star, D_star)
    N_low, N_high = draws.band(N_draws, N_star)
    D_low, D_high = draws.band(D_draws, D_star)
    log_low, log_high = draws.band(draws.log_loss(N_star, D_star), np.log(loss))
    return Frontier(C, N_star, N_low, N_high, D_star, D_low, D_high, loss, np.exp(log_low), np.exp(log_high))


def flat_range(law: Law, C: float, tolerance: float = 1e-3, **columns: float) -> tuple[float, float]:
    """(smallest, largest) N in parameters whose loss on C FLOPs is within `tolerance` (relative) of the least.

    The valley is flat: its ends often differ tenfold, and what else speaks for a small model may decide inside it.
    """
    best = float(law.optimal_size([C], **columns)[0])
    ceiling = float(law.loss(best, C / (FLOPS_PER_PARAMETER_TOKEN * best), **columns)) * (1 + tolerance)

    def excess(log_N: float) -> float:
        N = np.exp(log_N)
        return float(law.loss(N, C / (FLOPS_PER_PARAMETER_TOKEN * N), **columns)) - ceiling

    ends = []
    for direction in (-1.0, 1.0):
        edge, limit = np.log(best), 0.0 if direction < 0 else np.log(C / FLOPS_PER_PARAMETER_TOKEN)
        while excess(edge) < 0 and edge != limit:
            edge = max(edge + direction, limit) if direction < 0 else min(edge + direction, limit)
        ends.append(float(np.exp(edge if excess(edge) < 0 else brentq(excess, np.log(best), edge))))
    return ends[0], ends[1]


@dataclass(frozen=True)
class Serving:
    """The model that costs least over its life: N parameters trained on D tokens, C_train and C_serve in FLOPs."""

    N: float
    D: float
    loss: float
    C_train: float
    C_serve: float


def cheapest_for_loss(law: Law, loss: float, served_tokens: float, **columns: float) -> Serving | None:
    """The least 6 N D + 2 N S that reaches `loss` when S tokens are served (arXiv 2401.00448, eq. 4); None if none can.

    The more tokens are served, the smaller and longer trained the best model. S = 0 is the compute-optimal model.
    """
    low, high = np.log(1e2), np.log(1e15)
    for num in (4001, 2001):  # the second look is between the neighbours of the first one's best
        log_N = np.linspace(low, high, num)
        log_D = _tokens_for_loss(law, loss, log_N, columns)
        cost = np.logaddexp(np.log(FLOPS_PER_PARAMETER_TOKEN) + log_N + log_D, _log(2.0 * served_tokens) + log_N)
        best = int(np.argmin(cost))
        if not np.isfinite(cost[best]):
            return None
        low, high = log_N[max(best - 1, 0)], log_N[min(best + 1, num - 1)]
    N, D = float(np.exp(log_N[best])), float(np.exp(log_D[best]))
    return Serving(N, D, loss, FLOPS_PER_PARAMETER_TOKEN * N * D, 2.0 * N * served_tokens)


def _tokens_for_loss(law: Law, loss: float, log_N: NDArray, columns: dict[str, float]) -> NDArray:
    """ln D at which each size has the loss, by bisection; inf where 1e18 tokens are not enough."""
    low, high = np.zeros_like(log_N), np.full_like(log_N, np.log(1e18))
    out_of_reach = law.loss(np.exp(log_N), np.exp(high), **columns) > loss
    for _ in range(100):
        middle = (low + high) / 2
        above = law.loss(np.exp(log_N), np.exp(middle), **columns) > loss
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(out_of_reach, np.inf, high)


def _log(value: float) -> float:
    return float(np.log(value)) if value > 0 else -np.inf


def compute_grid(C: ArrayLike, beyond: float = 10.0, num_per_decade: int = 12) -> NDArray[np.float64]:
    """Budgets (FLOPs) spread evenly in ln C over the measured range and up to `beyond` times its end.

    The largest measured budget is one of them.
    """
    low, high = float(np.min(C)), float(np.max(C))
    num = max(2, round(num_per_decade * np.log10(high / low)) + 1) if high > low else 1
    tail = max(1, round(num_per_decade * np.log10(beyond)))
    return np.concatenate([np.geomspace(low, high, num), np.geomspace(high, high * beyond, tail + 1)[1:]])
