"""Hold-outs in series: rolling origins over compute, what they say of intervals, and scales left out in turn.

Several compute thresholds in a row, each tested on the runs up to the next, give the rolling-origin hold-out, whose
coverage says how far a nominal 95 % interval may be trusted beyond the runs it came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import bdtr

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.holdout import HoldOut, compute_quantiles, hold_out
from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import LARGE
from pipeline.fitting.runs import Runs

NUM_ORIGINS = 4
FIRST_ORIGIN = 0.5
"""The share of (N, D) cells, in order of compute, that the first origin of the rolling hold-out trains on."""
LEVEL = 0.05


def rolling_origin(
    form: type[Law],
    runs: Runs,
    estimator: Estimator,
    num_resamples: int,
    seed: int,
    num_origins: int = NUM_ORIGINS,
    first: float = FIRST_ORIGIN,
) -> list[HoldOut]:
    """Hold-outs at thresholds from the `first` share of cells on, each tested on the runs up to the next.

    No run is tested twice, and origins whose training runs do not identify the law are left out.
    """
    shares = np.linspace(first, 1.0, num_origins + 1)
    thresholds = compute_quantiles(runs, shares)
    found = []
    for low, high in pairwise(thresholds):
        if high > low:
            found.append(hold_out(form, runs, estimator, low, num_resamples, seed, high))
    return [one for one in found if one is not None]


@dataclass(frozen=True)
class Trust:
    """What the rolling hold-out says of nominal 95 % intervals: their coverage, and by how much to widen them.

    `coverage` is over `num_tested` runs; `p` the chance of so few inside if 95 % were true and runs independent;
    `factor` multiplies the half width (1 when coverage is not below nominal by more than chance); `reach` is the
    largest factor in compute between an origin and a run it was tested on.
    """

    coverage: float
    num_tested: int
    p: float
    factor: float
    reach: float


def trust(origins: list[HoldOut]) -> Trust | None:
    """The verdict of a rolling hold-out, None when there is none.

    Widening is by the 95th percentile of held-out errors over half widths, and only where the coverage is below 95 %
    by more than chance (p < 0.05): were it done always, intervals of a right law would cover too much.
    """
    if not origins:
        return None
    inside = np.concatenate([one.inside for one in origins])
    scaled = np.concatenate([one.scaled_errors for one in origins])
    p = float(bdtr(int(inside.sum()), len(inside), 0.95))
    factor = max(1.0, float(np.quantile(scaled, 0.95))) if p < LEVEL else 1.0
    reach = max(float(one.C.max() / one.threshold) for one in origins)
    return Trust(float(inside.mean()), len(inside), p, factor, reach)


@dataclass(frozen=True)
class ScaleLeftOut:
    """One value of N or D left out: how the law fitted to the rest predicts it; None where the rest says nothing."""

    variable: str
    value: float
    num_runs: int
    rms: float | None
    bias: float | None


def leave_one_scale_out(
    form: type[Law], runs: Runs, estimator: Estimator, variable: str = "N", most: int = 16
) -> list[ScaleLeftOut]:
    """Each size (or token count) left out in turn, at most `most` groups of them even in ln of the variable.

    The rest of more than LARGE runs is fitted from the law of all of them, with its estimator.
    """
    values = runs.N if variable == "N" else runs.D
    distinct = np.unique(values)
    edges = distinct
    if len(distinct) > most:
        edges = np.exp(np.linspace(np.log(distinct[0]), np.log(distinct[-1]), most, endpoint=False))
    group = np.searchsorted(edges, values * (1 + 1e-12), side="right") - 1
    whole = runs.fitted(form, estimator) if len(runs) > LARGE else None
    found = []
    for label in np.unique(group):
        left = group == label
        rms = bias = None
        if not left.all():
            fitted = whole.again(~left) if whole else runs.subset(~left).fitted(form, estimator)
            if fitted.identified:
                out = runs.subset(left)
                error = np.log(out.L / fitted.law.loss(out.N, out.D, **out.columns))
                rms = float(np.sqrt(np.average(error**2, weights=out.weights)))
                bias = float(np.average(error, weights=out.weights))
        found.append(ScaleLeftOut(variable, float(np.exp(np.log(values[left]).mean())), int(left.sum()), rms, bias))
    return found
