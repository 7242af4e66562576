"""What is minimised: the sum over runs of weight * rho(r), r = measured less predicted, always a sum, never a mean.

r is ln L - ln Lhat, or L - Lhat (nats/token) in linear space. Two estimators of one table give different numbers
(arXiv 2404.10102 prints the L1 point beside Huber intervals), so each says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TUNING = 1.345
"""Huber's threshold in units of the noise sd: 95 % efficient on Gaussian noise (Huber 1981)."""
MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""
SMALLEST_DELTA = 1e-9
FAR_OUT = 5.0
"""Residuals of so many noise sds look like diverged or mistaken runs."""
FAR_OUT_LEAST = 0.03
"""And of so much in ln L, so that tables without noise have none."""


@dataclass(frozen=True)
class Estimator:
    """A rule rho(r), named.

    kind huber: r^2 / 2 for |r| <= delta, delta (|r| - delta / 2) beyond; l1: |r|; l2: r^2. `delta` None is adaptive:
    TUNING times the noise sd, estimated from the median absolute residual. `above` multiplies rho of runs that lie
    above the law (under-tuned runs), 1 for a symmetric rule. `space` is log (of L) or linear (in L). L1 fits go
    from vertex to vertex of a symmetric rule on ln L, so l1 has neither.
    """

    kind: Literal["huber", "l1", "l2"]
    delta: float | None = None
    above: float = 1.0
    space: Literal["log", "linear"] = "log"

    def __post_init__(self) -> None:
        if self.delta is not None and not (np.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"estimator: delta: {self.delta} is not positive")
        if not 0 < self.above <= 1:
            raise ValueError(f"estimator: above: {self.above} is not in (0, 1]")
        if self.kind == "l1" and self.space != "log":
            raise ValueError(f"estimator: space: {self.space!r} given, but l1 is fitted in log space alone")
        if self.kind == "l1" and self.above != 1:
            raise ValueError(f"estimator: above: {self.above} given, but l1 counts runs above the law like all others")

    @property
    def text(self) -> str:
        """The estimator in words, as it stands beside every number it gave."""
        of = "ln L" if self.space == "log" else "L"
        what = {
            "huber": "Huber, adaptive delta" if self.delta is None else f"Huber, delta = {self.delta:.4g}",
            "l1": "L1 (least absolute deviations)",
            "l2": "L2 (least squares)",
        }[self.kind]
        under = "" if self.above == 1 else f", runs above the law counted {self.above:g} times"
        return f"{what} on {of}, summed over runs{under}"

    @property
    def adaptive(self) -> bool:
        """Whether delta has still to be set from residuals."""
        return self.kind == "huber" and self.delta is None

    def adapted(self, residuals: NDArray, weights: NDArray, num_parameters: int) -> Estimator:
        """This estimator with delta = TUNING * sd, the sd `robust_sd` of the residuals of runs of some weight."""
        if not self.adaptive:
            return self
        spread = robust_sd(residuals[weights > 0], num_parameters)
        return replace(self, delta=max(TUNING * spread, SMALLEST_DELTA))

    def smoothed(self, delta: float) -> Estimator:
        """For L1: Huber with this delta, which tends to delta times L1; the estimator itself otherwise."""
        return replace(self, kind="huber", delta=delta) if self.kind == "l1" else self

    def rho(self, r: NDArray) -> NDArray[np.float64]:
        """What a residual costs."""
        if self.kind == "l2":
            cost = r * r
        elif self.kind == "l1":
            cost = np.abs(r)
        else:
            inside = np.minimum(np.abs(r), self.delta)
            cost = inside * (np.abs(r) - 0.5 * inside)
        return cost if self.above == 1 else cost * np.where(r > 0, self.above, 1.0)

    def expansion(self, r: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """(rho, rho', rho'') of smooth kinds."""
        if self.kind == "l2":
            cost, first, second = r * r, 2.0 * r, np.full_like(r, 2.0)
        elif self.kind == "huber":
            first = np.clip(r, -self.delta, self.delta)
            cost, second = first * (r - 0.5 * first), (first == r).astype(float)
        else:
            raise ValueError("estimator: kind: l1 has no derivatives; smooth it first")
        if self.above != 1:
            weight = np.where(r > 0, self.above, 1.0)
            cost, first, second = cost * weight, first * weight, second * weight
        return cost, first, second

    def reweighting(self, r: NDArray) -> NDArray[np.float64]:
        """rho' / r of smooth kinds, the weight of iteratively reweighted least squares."""
        ratio = np.full_like(r, 2.0) if self.kind == "l2" else self.delta / np.maximum(np.abs(r), self.delta)
        return ratio if self.above == 1 else ratio * np.where(r > 0, self.above, 1.0)


def robust_sd(residuals: NDArray, num_parameters: int) -> float:
    """The noise sd from the median absolute residual, the k smallest left out for k parameters.

    A fit of k parameters can bring k residuals to nothing whatever the noise, and a robust one does; with them the
    median, and with it an adaptive threshold, would be too small.
    """
    size = np.sort(np.abs(residuals))
    left = size[min(num_parameters, len(size) - 1) :]
    return MAD_TO_SD * float(np.median(left))


def outlying(residuals: NDArray, num_parameters: int) -> NDArray[np.bool_]:
    """Which residuals (n,) of a robust fit lie FAR_OUT noise sds or more from the law on either side: runs that
    diverged or ended early, or losses written down wrong."""
    return np.abs(residuals) > max(FAR_OUT * robust_sd(residuals, num_parameters), FAR_OUT_LEAST)


def Huber(delta: float | None = None) -> Estimator:
    """Huber on ln L; delta 1e-3 is that of arXiv 2203.15556, None adapts it to the noise."""
    return Estimator("huber", delta)


L1 = Estimator("l1")
"""Least absolute deviations on ln L."""
L2 = Estimator("l2")
"""Least squares on ln L."""
L2_LINEAR = Estimator("l2", space="linear")
"""Least squares on L itself (arXiv 2403.08540)."""


def asymmetric(above: float = 0.25, delta: float | None = None) -> Estimator:
    """Huber on ln L in which a run above the law counts `above` times: under-tuned runs lie above, never below."""
    return Estimator("huber", delta, above)


def estimator_named(name: str, delta: float | None = None) -> Estimator:
    """The estimator huber, l1, l2, l2_linear or asymmetric; `delta` is for huber and asymmetric alone.

    Raises ValueError for another name, or a delta where there is none.
    """
    plain = {"l1": L1, "l2": L2, "l2_linear": L2_LINEAR}
    key = name.lower().replace("-", "_")
    if key in plain:
        if delta is not None:
            raise ValueError(f"--delta: {delta} given, but estimator {key} has no delta")
        return plain[key]
    if key in ("huber", "asymmetric"):
        return Huber(delta) if key == "huber" else asymmetric(delta=delta)
    raise ValueError(f"--estimator: {name!r} is none of huber, l1, l2, l2_linear, asymmetric")
