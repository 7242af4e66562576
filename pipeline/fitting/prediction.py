"""What a fitted law says of runs not made yet, and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.fitting.frontier import flat_range
from pipeline.fitting.intervals import corrected_interval
from pipeline.fitting.laws import LAWS
from pipeline.fitting.laws.law import Law, log_losses
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, Variables
from pipeline.fitting.runs import Runs
from pipeline.fitting.uncertainty import Bootstrap
from pipeline.fitting.validation import Trust

BUDGET_FACTOR = 10.0
"""Forecasts are asked for at this many times the largest compute; beyond it a prediction carries a warning."""


@dataclass(frozen=True)
class Prediction:
    """The loss of a run of N parameters and D tokens (C = 6 N D FLOPs), nats/token.

    `interval` is the 95 % interval of the law there, `prediction_interval` that of a measured run: its half widths and
    those of the noise add in squares, and are widened where the rolling hold-out called for it. `extrapolation` is C
    over the largest measured C.
    """

    N: float
    D: float
    C: float
    loss: float
    interval: tuple[float, float]
    prediction_interval: tuple[float, float]
    extrapolation: float
    warnings: list[str]

    @property
    def tokens_per_parameter(self) -> float:
        """D / N."""
        return self.D / self.N


@dataclass(frozen=True)
class Budget:
    """The best use of C FLOPs: the prediction at N*, D*, their 95 % intervals, and the flat range.

    `flat_N` are the smallest and largest N whose loss is within 0.1 % of the least.
    """

    best: Prediction
    N_interval: tuple[float, float]
    D_interval: tuple[float, float]
    flat_N: tuple[float, float]

    @property
    def tokens_per_parameter_interval(self) -> tuple[float, float]:
        """The 95 % interval of D* / N* = C / (6 N*^2), which falls as N* rises."""
        (low, high), scale = self.N_interval, self.best.C / FLOPS_PER_PARAMETER_TOKEN
        return scale / high / high, scale / low / low


@dataclass(frozen=True)
class Predictor:
    """A fitted law with the draws, noise and reach that its predictions need; plain numbers, so it can be stored.

    `estimate` (k,) and `draws` (R, k) are thetas in raw units, `freedom` their degrees of freedom, `noise_sd` the sd of
    ln L of a run about the law, `widening` the factor of the rolling hold-out; C_range, N_range and D_range are the
    least and greatest measured compute (FLOPs), size (parameters) and data (tokens).
    """

    form: type[Law]
    estimate: NDArray[np.float64]
    draws: NDArray[np.float64] = field(repr=False)
    freedom: int
    noise_sd: float
    widening: float
    C_range: tuple[float, float]
    N_range: tuple[float, float]
    D_range: tuple[float, float]

    @classmethod
    def of(cls, draws: Bootstrap, noise_sd: float, trusted: Trust | None, runs: Runs) -> Predictor:
        """The predictor of a resampled fit to `runs`, with what its rolling hold-out says."""
        widening = trusted.factor if trusted else 1.0
        # A prediction's C is 6 N D, whatever else the table may count as compute.
        C = FLOPS_PER_PARAMETER_TOKEN * runs.N * runs.D
        ranges = ((float(values.min()), float(values.max())) for values in (C, runs.N, runs.D))
        return cls(draws.form, draws.estimate, draws.theta, draws.freedom, noise_sd, widening, *ranges)

    @property
    def law(self) -> Law:
        """The fitted law, raw units."""
        value = self.form.values(self.estimate[None])
        return self.form(**{name: float(value[name][0]) for name in self.form.parameters()})

    def at(self, N: float, D: float, **columns: float) -> Prediction:
        """The loss of one run. Raises ValueError unless N, D and 6 N D are positive numbers."""
        for name, value in (("N", N), ("D", D)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value} is not a finite positive number")
        where = Variables.of([N], [D], {name: [value] for name, value in columns.items()})
        log_L = float(log_losses(self.form, self.estimate[None], where)[0, 0])
        draws = log_losses(self.form, self.draws, where)
        low, high = corrected_interval(draws, [log_L], self.freedom)
        noise = stdtrit(max(self.freedom, 1), 0.975) * self.noise_sd
        below, above = (self.widening * float(np.hypot(end - log_L, noise)) for end in (low[0], high[0]))
        C = FLOPS_PER_PARAMETER_TOKEN * float(N) * float(D)
        if not (np.isfinite(C) and C > 0):
            raise ValueError(f"N, D: 6 N D of {N:g} and {D:g} is out of the range of numbers")
        beyond = C / self.C_range[1]
        return Prediction(
            float(N),
            float(D),
            C,
            float(np.exp(log_L)),
            (float(np.exp(low[0])), float(np.exp(high[0]))),
            (float(np.exp(log_L - below)), float(np.exp(log_L + above))),
            beyond,
            list(self._warnings(N, D, C)),
        )

    def _warnings(self, N: float, D: float, C: float) -> Iterator[str]:
        beyond = C / self.C_range[1]
        if beyond > BUDGET_FACTOR:
            yield (
                f"far_extrapolation: {beyond:.3g} times the largest measured compute, past {BUDGET_FACTOR:g}; the "
                "interval supposes that the law still holds there"
            )
        if C < self.C_range[0]:
            yield f"below_range: {C / self.C_range[0]:.3g} times the smallest measured compute, where no run was"
        for name, value, (low, high) in (("N", N, self.N_range), ("D", D, self.D_range)):
            if name in self.form.levels and not low / BUDGET_FACTOR <= value <= high * BUDGET_FACTOR:
                yield (
                    f"far_{name}: {name} = {value:.3g} is more than {BUDGET_FACTOR:g} times outside the measured "
                    f"{low:.3g} to {high:.3g}"
                )
        if self.widening > 1:
            yield (
                f"widened: the law's intervals missed too many held-out larger runs; widened {self.widening:.2f} times"
            )

    def budget(self, C: float, **columns: float) -> Budget:
        """The best use of C FLOPs. Raises ValueError for a law without an optimum, a C that is not positive, and one so
        small or large that the best size or an end of its interval is no size of a model."""
        if not (np.isfinite(C) and C > 0):
            raise ValueError(f"C: {C} is not a finite positive number of FLOPs")
        N = float(self.law.optimal_size([C], **columns)[0])
        if not np.isfinite(N):
            raise ValueError(f"law: {self.form.name} has no size of least loss on {C:.3g} FLOPs")
        D = C / (FLOPS_PER_PARAMETER_TOKEN * N)
        sizes = self.form.optimal_sizes(self.draws, np.array([C]), columns)
        low, high = (float(end[0]) for end in corrected_interval(sizes, [N], self.freedom))
        if N < 1 or not (low > 0 and np.isfinite(high)):
            raise ValueError(f"C: {N:.3g} [{low:.3g}, {high:.3g}], the best size on {C:g} FLOPs, is no size of a model")
        scale = C / FLOPS_PER_PARAMETER_TOKEN
        return Budget(
            self.at(N, D, **columns), (low, high), (scale / high, scale / low), flat_range(self.law, C, **columns)
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything but the draws, as plain JSON types; `from_dict` puts them together again."""
        return {
            "law": self.form.name,
            "theta": [float(value) for value in self.estimate],
            "freedom": self.freedom,
            "noise_sd": self.noise_sd,
            "widening": self.widening,
            "C_range": list(self.C_range),
            "N_range": list(self.N_range),
            "D_range": list(self.D_range),
        }

    @classmethod
    def from_dict(cls, entry: dict[str, Any], draws: NDArray) -> Predictor:
        """The predictor of a stored entry and its draws (R, k). Raises ValueError for an unknown law."""
        if entry["law"] not in LAWS:
            raise ValueError(f"law: {entry['law']!r} is none of {', '.join(LAWS)}")
        return cls(
            LAWS[entry["law"]],
            np.asarray(entry["theta"], float),
            np.asarray(draws, float),
            int(entry["freedom"]),
            float(entry["noise_sd"]),
            float(entry["widening"]),
            *((float(entry[name][0]), float(entry[name][1])) for name in ("C_range", "N_range", "D_range")),
        )
