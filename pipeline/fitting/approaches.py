"""The three approaches of arXiv 2203.15556 on the same runs, and a test that says whether they agree.

Envelope, isoFLOP minima and the parametric law each give the exponent a of N*(C) ~ C^a. They share the runs, so their
errors are correlated; the test takes them as independent, which is generous: what it calls a disagreement is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from pipeline.fitting.envelope import envelope
from pipeline.fitting.isoflop import isoflop
from pipeline.fitting.points import LARGE, spread_levels
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import Fit
from pipeline.fitting.uncertainty import Bootstrap

LEVEL = 0.05
ENVELOPE_SIZES = 100
"""Of more than LARGE runs the envelope looks at so many sizes, evenly spaced."""
WIDE = 0.05
"""Standard error of a above which an approach says too little to agree or disagree: it misallocates N by C_ratio^a."""


@dataclass(frozen=True)
class Approach:
    """One approach's exponent a of N*(C) with its 95 % interval, None where refused; `remark` says why or from what."""

    name: str
    a: float | None
    interval: tuple[float, float] | None
    remark: str

    @property
    def standard_error(self) -> float | None:
        """Half the interval over the 97.5 % quantile of a Gaussian."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / (2 * 1.959964)


@dataclass(frozen=True)
class Agreement:
    """Whether approaches agree: chi2 of their exponents about the weighted mean, its p, and the verdict in a word."""

    approaches: list[Approach]
    chi2: float | None
    p: float | None
    verdict: Literal["agree", "disagree", "undetermined"]


def three_approaches(
    fit: Fit, draws: Bootstrap | None, runs: Runs, noise_sd: float, num_resamples: int, seed: int
) -> list:
    """Envelope, isoFLOP and parametric exponents of the same runs, with N as the runs count it and C = 6 N D."""
    return [
        _of_envelope(runs, noise_sd, num_resamples, seed),
        _of_isoflop(runs, noise_sd, num_resamples, seed),
        _of_law(fit, draws),
    ]


def agreement(approaches: list[Approach]) -> Agreement:
    """The test over the approaches that have an interval; undetermined with fewer than two precise enough."""
    known = [one for one in approaches if one.a is not None and one.standard_error]
    precise = [one for one in known if one.standard_error <= WIDE]
    if len(known) < 2:
        return Agreement(approaches, None, None, "undetermined")
    a, error = (np.array([getattr(one, name) for one in known]) for name in ("a", "standard_error"))
    mean = np.average(a, weights=error**-2)
    statistic = float(np.sum(((a - mean) / error) ** 2))
    p = float(chdtrc(len(known) - 1, statistic))
    if p < LEVEL:
        return Agreement(approaches, statistic, p, "disagree")
    return Agreement(approaches, statistic, p, "agree" if len(precise) == len(known) else "undetermined")


def _of_envelope(runs: Runs, noise_sd: float, num_resamples: int, seed: int) -> Approach:
    sizes = spread_levels(runs.N, ENVELOPE_SIZES if len(runs) > LARGE else len(runs))
    kept = runs.subset(np.isin(runs.N, sizes))
    found = envelope(kept.N, kept.D, kept.L, num_resamples, seed, noise_sd=noise_sd)
    turns = len(np.unique(found.N_star))
    remark = f"sizes that take turns on it: {turns}; budgets refused: {len(found.refused)} of 200"
    if len(kept) < len(runs):
        remark = f"{len(sizes)} of {len(np.unique(runs.N))} sizes; {remark}"
    return Approach("envelope", found.exponent, found.interval, remark)


def _of_isoflop(runs: Runs, noise_sd: float, num_resamples: int, seed: int) -> Approach:
    found = isoflop(runs.N, runs.D, runs.L, noise_sd, num_resamples, seed)
    remark = f"minima: {len(found.minima)}; budgets refused: {len(found.refused)}"
    return Approach("isoFLOP", found.exponent, found.interval, remark)


def _of_law(fit: Fit, draws: Bootstrap | None) -> Approach:
    exponent = fit.law.size_exponent if fit.identified else None
    if exponent is None or draws is None:
        return Approach("parametric", None, None, "not identified" if not fit.identified else "no power of C")
    return Approach("parametric", exponent, draws.interval(draws.size_exponent(), exponent), fit.form.name)
