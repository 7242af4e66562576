"""The compute-optimal frontier of a fitted law: N*(C), D*(C), tokens per parameter and loss, each with a band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.forms import FLOPS_PER_PARAMETER_TOKEN, Additive
from pipeline.fitting.uncertainty import PERCENTILES, Bootstrap


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


def frontier(law: Additive, draws: Bootstrap, C: ArrayLike) -> Frontier:
    """The frontier of `law` at budgets C (FLOPs), with bands from the resampled laws in `draws`."""
    C = np.asarray(C, float)
    if not (np.isfinite(C).all() and (C > 0).all()):
        raise ValueError(f"C: {C.min()} is not a positive number of FLOPs")
    N_star, N_draws = law.optimal_size(C), draws.optimal_size(C)
    D_star, D_draws = C / (FLOPS_PER_PARAMETER_TOKEN * N_star), C / (FLOPS_PER_PARAMETER_TOKEN * N_draws)
    N_low, N_high = np.percentile(N_draws, PERCENTILES, axis=0)
    D_low, D_high = np.percentile(D_draws, PERCENTILES, axis=0)
    log_low, log_high = np.percentile(draws.log_loss(N_star, D_star), PERCENTILES, axis=0)
    return Frontier(
        C, N_star, N_low, N_high, D_star, D_low, D_high, law.loss(N_star, D_star), np.exp(log_low), np.exp(log_high)
    )


def compute_grid(C: ArrayLike, beyond: float = 10.0, num_per_decade: int = 12) -> NDArray[np.float64]:
    """Budgets (FLOPs) spread evenly in ln C over the measured range and up to `beyond` times its end.

    The largest measured budget is one of them.
    """
    low, high = float(np.min(C)), float(np.max(C))
    num = max(2, round(num_per_decade * np.log10(high / low)) + 1) if high > low else 1
    tail = max(1, round(num_per_decade * np.log10(beyond)))
    return np.concatenate([np.geomspace(low, high, num), np.geomspace(high, high * beyond, tail + 1)[1:]])
