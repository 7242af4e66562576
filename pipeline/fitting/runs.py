"""A table of runs: what every analysis that fits more than once is given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, cells
from pipeline.fitting.solver import NUM_STARTS, Fit, fit


@dataclass(frozen=True)
class Runs:
    """Finished runs: N parameters, D tokens, L loss (nats/token), C FLOPs, and how often each counts in a fit.

    `columns` are those that some laws need beside N and D.
    """

    N: NDArray[np.float64]
    D: NDArray[np.float64]
    L: NDArray[np.float64]
    C: NDArray[np.float64]
    weights: NDArray[np.float64]
    columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        N: NDArray,
        D: NDArray,
        L: NDArray,
        C: NDArray | None = None,
        weights: NDArray | None = None,
        columns: dict[str, NDArray] | None = None,
    ) -> Runs:
        """Runs of these arrays, each (n,); C is 6 N D and every run counts once unless told."""
        N, D, L = (np.asarray(values, float) for values in (N, D, L))
        C = FLOPS_PER_PARAMETER_TOKEN * N * D if C is None else np.asarray(C, float)
        weights = np.ones(len(N)) if weights is None else np.asarray(weights, float)
        return cls(N, D, L, C, weights, {name: np.asarray(values, float) for name, values in (columns or {}).items()})

    def __len__(self) -> int:
        return len(self.N)

    @property
    def cell(self) -> NDArray[np.int64]:
        """A label for each run, the same for runs of equal N, D and further columns."""
        return cells(self.N, self.D, *self.columns.values())

    def subset(self, kept: NDArray) -> Runs:
        """The runs `kept` (mask or indices)."""
        columns = {name: values[kept] for name, values in self.columns.items()}
        return Runs(self.N[kept], self.D[kept], self.L[kept], self.C[kept], self.weights[kept], columns)

    def with_losses(self, L: NDArray) -> Runs:
        """The same runs with other losses, nats/token."""
        return replace(self, L=L)

    def fitted(self, form: type[Law], estimator: Estimator | None = None, num_starts: int = NUM_STARTS) -> Fit:
        """The law of `form` fitted to these runs; see `pipeline.fitting.solver.fit`."""
        return fit(form, self.N, self.D, self.L, estimator, self.weights, self.columns, num_starts)
