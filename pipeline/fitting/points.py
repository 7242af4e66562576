"""Runs as the solver wants them: centred logarithms, and the cells and weights that replicate seeds call for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGE = 2_000
"""Of more runs than this, what needs many fits looks at evenly spaced ones or takes one step from the whole fit."""
FLOPS_PER_PARAMETER_TOKEN = 6.0
"""C = 6 N D: two FLOPs forward and four backward a parameter and token (arXiv 2001.08361, section 2.1)."""


@dataclass(frozen=True)
class Variables:
    """Where a law is evaluated: ln N, ln D, and further columns (ln of tokens; labels such as recipe as they are).

    `ln_flops` is ln of the FLOPs a parameter and token, 0 in centred variables.
    """

    labels: ClassVar[tuple[str, ...]] = ("recipe",)

    ln_N: NDArray[np.float64]
    ln_D: NDArray[np.float64]
    more: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    ln_flops: float = float(np.log(FLOPS_PER_PARAMETER_TOKEN))

    @classmethod
    def of(cls, N: ArrayLike, D: ArrayLike, columns: dict[str, ArrayLike] | None = None) -> Variables:
        """The variables of runs in raw units: N parameters, D tokens, further columns by name."""
        more = {
            name: np.asarray(values, float) if name in cls.labels else np.log(np.asarray(values, float))
            for name, values in (columns or {}).items()
        }
        return cls(np.log(np.asarray(N, float)), np.log(np.asarray(D, float)), more)

    def __len__(self) -> int:
        return len(self.ln_N)

    @property
    def ln_C(self) -> NDArray[np.float64]:
        """ln C with C = 6 N D; in centred variables ln of C over its centre."""
        return self.ln_N + self.ln_D + self.ln_flops

    def centred(self) -> tuple[Variables, Variables]:
        """(these with the means of ln N and ln D taken off, the means); tokens of any kind lose the mean of ln D."""
        centre = Variables(np.asarray(self.ln_N.mean()), np.asarray(self.ln_D.mean()))
        return self.about(centre), centre

    def about(self, centre: Variables) -> Variables:
        """These centred variables, or those of other runs about the same centre."""
        more = {name: values if name in self.labels else values - centre.ln_D for name, values in self.more.items()}
        return Variables(self.ln_N - centre.ln_N, self.ln_D - centre.ln_D, more, 0.0)

    def subset(self, kept: NDArray) -> Variables:
        """The variables of the runs `kept` (mask or indices)."""
        more = {name: values[kept] for name, values in self.more.items()}
        return Variables(self.ln_N[kept], self.ln_D[kept], more, self.ln_flops)


@dataclass(frozen=True)
class Points:
    """Runs ready for fitting: centred variables and their centre, ln L in ln(nats/token), weights."""

    at: Variables
    centre: Variables
    log_L: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.log_L)

    @property
    def typical_loss(self) -> float:
        """The median measured loss, nats/token: unlike the smallest, one wrong run does not move it."""
        return float(np.exp(np.median(self.log_L)))

    @property
    def cell(self) -> NDArray[np.int64]:
        """A label for each run, the same for runs of equal N, D and further columns."""
        return cells(*(np.round(values, 12) for values in (self.at.ln_N, self.at.ln_D, *self.at.more.values())))

    def placed(self, N: ArrayLike, D: ArrayLike, columns: dict[str, ArrayLike] | None = None) -> Variables:
        """Other runs in the centred variables of these."""
        return Variables.of(N, D, columns).about(self.centre)

    def subset(self, kept: NDArray) -> Points:
        """The runs `kept` (mask or indices), about the same centre."""
        return Points(self.at.subset(kept), self.centre, self.log_L[kept], self.weights[kept])


def centred_points(
    N: ArrayLike,
    D: ArrayLike,
    L: ArrayLike,
    weights: ArrayLike | None = None,
    columns: dict[str, ArrayLike] | None = None,
) -> Points:
    """The runs as centred logarithms; each counts `weights` times in the objective, None for once.

    Raises ValueError when a value is not finite and positive (a label: finite).
    """
    table = {"N": np.asarray(N, float), "D": np.asarray(D, float), "L": np.asarray(L, float)}
    table["weights"] = np.ones(len(table["N"])) if weights is None else np.asarray(weights, float)
    table |= {name: np.asarray(values, float) for name, values in (columns or {}).items()}
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"N, D, L, weights: different numbers of runs {lengths}")
    if not lengths["N"]:
        raise ValueError("N, D, L: no runs to fit")
    for name, values in table.items():
        wrong = np.flatnonzero(~(np.isfinite(values) & ((values > 0) | (name in Variables.labels))))
        if len(wrong):
            raise ValueError(f"{name}: run {wrong[0]} is {values[wrong[0]]}; must be finite and positive")
    at, centre = Variables.of(table["N"], table["D"], {name: table[name] for name in columns or {}}).centred()
    return Points(at, centre, np.log(table["L"]), table["weights"])


def positive_columns(**columns: ArrayLike) -> list[NDArray[np.float64]]:
    """The columns as float arrays of one length; ValueError names a column that is empty, uneven or not positive."""
    arrays = {name: np.atleast_1d(np.asarray(values, float)) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ValueError(f"{', '.join(lengths)}: need one row a run, not {lengths}")
    for name, values in arrays.items():
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            raise ValueError(f"{name}: row {wrong[0]} is {values[wrong[0]]}; must be finite and positive")
    return list(arrays.values())


def cells(*columns: ArrayLike) -> NDArray[np.int64]:
    """A label for each run, the same for runs of equal columns (such as N and D), rising with them, the first first."""
    label = np.zeros(len(np.asarray(columns[0])), np.int64)
    for values in columns:
        levels, member = np.unique(np.asarray(values, float), return_inverse=True)
        label = np.unique(label * len(levels) + member.reshape(-1), return_inverse=True)[1].reshape(-1)
    return label


def evenly(most: int, *keys: NDArray) -> NDArray[np.int64]:
    """Indices of `most` runs, evenly spaced in order of the keys, the last key first."""
    order = np.lexsort(keys)
    return order[np.linspace(0, len(order) - 1, most).round().astype(int)]


def spread_levels(values: ArrayLike, most: int) -> NDArray[np.float64]:
    """The distinct values, rising; of more than `most` so many, spread evenly over their order, both ends kept."""
    distinct = np.unique(values)
    if len(distinct) <= most:
        return distinct
    return distinct[np.unique(np.linspace(0, len(distinct) - 1, most).round().astype(int))]


def cell_weights(N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
    """One over the number of seeds at each run's (N, D), so that every (N, D) counts once in a fit.

    Without it, the sizes chosen for replicate seeds would count several times and bend a law that is not exact.
    """
    cell = cells(N, D)
    return 1.0 / np.bincount(cell)[cell]
