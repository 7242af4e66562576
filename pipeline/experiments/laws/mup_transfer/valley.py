"""The loss over a sweep of learning rates at one width: where it is lowest, and what another rate costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl

from pipeline.experiments.verdict import Estimate


@dataclass(frozen=True, eq=False)
class Valley:
    """Losses at the rates 2^`exponents`, ascending: the first row is the mean over seeds, then, for each seed, the mean
    over the others (the jackknife).

    Every array that comes from it has the same order. The three rates around the lowest mean loss serve all rows, so
    that noise is not taken for regret.
    """

    exponents: np.ndarray
    losses: np.ndarray

    @cached_property
    def bracketed(self) -> bool:
        """Whether the lowest mean loss has a finite loss on both sides: at the edge of a sweep there is no optimum."""
        place = self._place
        return 0 < place < len(self.exponents) - 1 and bool(np.isfinite(self.losses[:, place - 1 : place + 2]).all())

    @cached_property
    def optimum(self) -> np.ndarray:
        """log2 of the best rate: the vertex of the parabola through the three points, NaN where there is none."""
        _, slope, curvature = self._parabola(self._place)
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = self.exponents[self._place] - slope / (2 * curvature)
        return np.where(self.bracketed & (curvature > 0), vertex, np.nan)

    @cached_property
    def lowest(self) -> np.ndarray:
        """The loss at the optimum; where there is none, at the rate of the lowest mean loss."""
        return np.where(np.isfinite(self.optimum), self.at(self.optimum), self.losses[:, self._place])

    def at(self, exponent: float | np.ndarray) -> np.ndarray:
        """The loss at the rate 2^`exponent`, by the parabola through the three nearest points of the sweep."""
        mean = float(np.ravel(exponent)[0])
        middle = self._place if np.isnan(mean) else int(np.argmin(np.abs(self.exponents - mean)))
        middle = min(max(middle, 1), len(self.exponents) - 2)
        level, slope, curvature = self._parabola(middle)
        away = exponent - self.exponents[middle]
        with np.errstate(invalid="ignore"):
            return np.where(away == 0, level, level + away * (slope + away * curvature))

    def regret(self, exponent: float) -> np.ndarray:
        """The loss at the rate 2^`exponent` above the lowest one, over the lowest one."""
        with np.errstate(invalid="ignore"):
            return self.at(exponent) / self.lowest - 1

    @property
    def _place(self) -> int:
        return int(np.argmin(self.losses[0]))

    def _parabola(self, middle: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, slope, half the second derivative) at the rate `middle` of the parabola through it and both sides."""
        middle = min(max(middle, 1), len(self.exponents) - 2)
        left, right = np.diff(self.exponents[middle - 1 : middle + 2])
        low, level, high = self.losses[:, middle - 1 : middle + 2].T
        with np.errstate(invalid="ignore"):
            fall, rise = (level - low) / left, (high - level) / right
            return level, (fall * right + rise * left) / (left + right), (rise - fall) / (left + right)


def valley_of(table: pl.DataFrame, exponent: str) -> Valley:
    """The valley of one width, from the columns seed, loss and `exponent`; a loss that is missing is infinite."""
    table = table.with_columns(pl.col("loss").fill_null(np.inf).fill_nan(np.inf)).sort(exponent, "seed")
    losses = table["loss"].to_numpy().reshape(table[exponent].n_unique(), -1).T
    others = [np.delete(losses, seed, axis=0).mean(axis=0) for seed in range(len(losses))]
    return Valley(table[exponent].unique().sort().to_numpy(), np.vstack([losses.mean(axis=0), *others]))


def estimate(values: np.ndarray) -> Estimate:
    """The first of `values` with its jackknife standard error from the others; no value where one is missing."""
    if not np.isfinite(values).all():
        return Estimate(None)
    num = len(values) - 1
    return Estimate(float(values[0]), float(values[1:].std() * (num - 1) ** 0.5), num)


def drift(valleys: dict[int, Valley]) -> np.ndarray:
    """Octaves by which the best rate moves a doubling of width, between the two widest."""
    low, high = sorted(valleys)[-2:]
    return (valleys[high].optimum - valleys[low].optimum) / np.log2(high / low)


def moves(valleys: dict[int, Valley]) -> str:
    """The drift of the mean from each width to the next, in words."""
    steps = [drift({low: valleys[low], high: valleys[high]})[0] for low, high in pairwise(sorted(valleys))]
    return ", ".join(f"{step:.2f}" if np.isfinite(step) else "an unknown amount" for step in steps)


def ascend(section: object, *fields: str) -> None:
    """Raises ValueError unless the values of every one of `fields` ascend."""
    for field in fields:
        values: Sequence[float] = getattr(section, field)
        if any(low >= high for low, high in pairwise(values)):
            raise ValueError(f"{field}: {values} must ascend")
