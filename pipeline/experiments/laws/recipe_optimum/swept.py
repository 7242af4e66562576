"""One dial at one width: its runs as a sweep, its best value, the regret of the study's value and the verdict on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Verdict
from pipeline.experiments.laws.recipe_optimum.parabola import Sweep, noise
from pipeline.experiments.laws.recipe_optimum.sweeps import DIALS, OWN, Dial


@dataclass(frozen=True, eq=False)
class Swept:
    """One dial at one width: its sweep (None where fewer than three values were trained at every seed), the value of
    the study, and the largest regret at which it counts as optimal."""

    name: str
    width: int
    study: float
    sweep: Sweep | None
    tolerance: float

    @property
    def dial(self) -> Dial:
        """What params.yaml calls it."""
        return DIALS[self.name]

    @cached_property
    def regret(self) -> tuple[float, float, float]:
        """(estimate, low, high) of the study's regret, in parts of the lowest loss."""
        return self.sweep.regret(0.0), *self.sweep.regret_interval(0.0)

    @cached_property
    def verdict(self) -> Verdict:
        """Of the claim that the study's value is optimal within the tolerance."""
        if self.sweep is None:
            return "undetermined"
        return ruled(self.regret[1:], self.tolerance, self.sweep.bracketed)

    @cached_property
    def optimum(self) -> tuple[float, float, float]:
        """(estimate, low, high) of the best value; the ends are infinitely far where there is none in the sweep."""
        reach = self.sweep.quantile * self.sweep.optimum_error
        with np.errstate(over="ignore"):
            return tuple(float(self.study * np.exp(self.sweep.optimum + side)) for side in (0.0, -reach, reach))

    @property
    def cheap(self) -> np.ndarray:
        """Whether the mean loss at each value of the sweep is within the tolerance of the lowest of the parabola."""
        return np.expm1(self.sweep.means - self.sweep.lowest) <= self.tolerance


def ruled(interval: tuple[float, float], tolerance: float, bracketed: bool) -> Verdict:
    """The verdict on a regret from its interval. Where no optimum is in the sweep it is only a lower bound, which can
    still tell that a value is not the best one."""
    low, high = interval
    if low > tolerance:
        return "violated"
    if not bracketed:
        return "not_reached"
    return "holds" if high <= tolerance else "undetermined"


def sweeps_of(runs: pl.DataFrame, tolerance: float) -> Iterator[Swept]:
    """Every dial at every width, in the order of DIALS; diverged settings are left out of the fits.

    The noise of a width is pooled over all its settings.
    """
    if "loss" not in runs.columns:
        runs = runs.with_columns(loss=pl.lit(None, pl.Float64))
    runs = runs.with_columns(log=pl.col("loss").log())
    swept = set(runs["dial"])
    for name in (name for name in DIALS if name in swept):
        for width in sorted(set(runs["width"])):
            at_width = runs.filter(width=width)
            variance, freedom = noise(_by_seed(at_width, ["dial", "factor"])[1])
            rows = at_width.filter(pl.col("dial").is_in([name, OWN]))
            factors, losses = _by_seed(rows, ["factor"])
            known = np.isfinite(losses).all(axis=0)
            moved = rows.filter(dial=name).row(0, named=True)
            enough = known.sum() >= 3 and freedom > 0 and bool(known[factors["factor"].to_numpy() == 1].all())
            x = np.log(factors["factor"].to_numpy())
            sweep = Sweep(x[known], losses[:, known], variance, freedom) if enough else None
            yield Swept(name, width, moved["quantity"] / moved["factor"], sweep, tolerance)


def _by_seed(runs: pl.DataFrame, by: list[str]) -> tuple[pl.DataFrame, np.ndarray]:
    """(the settings, sorted; ln loss with a row a seed and a column a setting, NaN where a run diverged)."""
    wide = runs.sort(*by, "seed").pivot(on="seed", index=by, values="log", maintain_order=True)
    return wide.select(by), wide.drop(by).to_numpy().astype(float).T
