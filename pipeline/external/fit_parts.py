"""Parts of the result of a fit as plain values: hold-out, frontier, recipes, and what was resampled for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.external.published import MULTIPLIER
from pipeline.fitting.analysis import Analysis
from pipeline.fitting.holdout import HoldOut
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.uncertainty import Bootstrap


def resampled(draws: Bootstrap | None, clustered: Bootstrap | None) -> dict[str, str]:
    """Key of the result -> what was resampled for its intervals: cells, or the clusters that were named.

    With clusters the parameters have both kinds, and all that follows from them is by cluster.
    """
    if draws is None:
        return {}
    of_clusters = dict.fromkeys(("cluster_standard_errors", "cluster_intervals"), clustered.method) if clustered else {}
    following = dict.fromkeys(("frontier", "recipes", "published", "predictor", "draws"), (clustered or draws).method)
    return dict.fromkeys(("standard_errors", "intervals"), draws.method) | of_clusters | following


def held_out(analysis: Analysis, split: HoldOut | None, quantile: float | None) -> dict[str, Any]:
    """The rolling hold-out with its coverage, and the `split` that was asked for at this quantile of C."""
    trust = analysis.trust
    return {
        "rolling": [_origin(one) for one in analysis.origins],
        "coverage": trust.coverage if trust else None,
        "num_tested": trust.num_tested if trust else 0,
        "widening": trust.factor if trust else None,
        "reach": trust.reach if trust else None,
        "split": _origin(split) | {"quantile": quantile} if split else None,
    }


def _origin(one: HoldOut) -> dict[str, Any]:
    return {
        "threshold": one.threshold,
        "until": one.C.max(),
        "num_train": int(one.train.sum()),
        "num_test": int(one.test.sum()),
        "rms": one.rms,
        "mean_absolute": one.mean_absolute,
        "bias": one.bias,
        "max": one.max,
        "coverage": one.coverage if np.isfinite(one.log_low).all() else None,
    }


def frontier(analysis: Analysis) -> dict[str, Any] | None:
    """Exponents of N* ~ C^a and D* ~ C^b, b = 1 - a, and the best use of the largest measured C."""
    law, draws = analysis.fit.law, analysis.cluster_draws or analysis.draws
    a = law.size_exponent
    C = float(analysis.runs.C.max())
    columns = {name: float(np.median(values)) for name, values in analysis.runs.columns.items() if name != "recipe"}
    N = float(law.optimal_size([C], **columns)[0])
    if not np.isfinite(N):
        return None
    found: dict[str, Any] = {"a": a, "a_interval": None, "b": None if a is None else 1 - a, "b_interval": None}
    found["a_error"] = None
    found |= {"C": C, "params": N, "params_interval": None, "tokens": C / (FLOPS_PER_PARAMETER_TOKEN * N)}
    found["tokens_per_parameter"] = found["tokens"] / N
    if draws:
        low, high = (float(end[0]) for end in draws.band(draws.optimal_size(C, columns), [N]))
        found["params_interval"] = (low, high)
        if a is not None:
            exponents = draws.size_exponent()
            if np.ptp(exponents) > 0:  # a form may fix it: then the runs say nothing of it, and no interval is known
                low, high = draws.interval(exponents, a)
                found |= {"a_interval": (low, high), "b_interval": (1 - high, 1 - low)}
                found["a_error"] = float(np.std(exponents, ddof=1))
    return found


def recipes(names: tuple[str, str], analysis: Analysis) -> dict[str, Any]:
    """Which recipe is which, and how much compute the second saves: m_N m_D."""
    found: dict[str, Any] = {"first": names[0], "second": names[1]}
    draws = analysis.cluster_draws or analysis.draws
    multiplier = interval = error = None
    if analysis.answered:
        multiplier = analysis.fit.law.compute_multiplier
        if draws:
            multipliers = draws.values["m_N"] * draws.values["m_D"]
            interval, error = draws.interval(multipliers, multiplier), float(np.std(multipliers, ddof=1))
    return found | {
        MULTIPLIER: multiplier,
        f"{MULTIPLIER}_interval": interval,
        f"{MULTIPLIER}_error": error,
    }
