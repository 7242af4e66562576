"""What can be wrong with a table of runs or with a fit, each with a name and a sentence of its own.

A `refusal` means that no parameter may be quoted; a `warning` stands beside the numbers. Values that are not numbers at
all (missing, infinite, zero or negative) raise ValueError where the table is read, before anything is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from pipeline.fitting.estimators import FAR_OUT, Huber, outlying, robust_sd
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import FEWEST_FOR_INTERVALS, Fit

HIGH_CONDITION = 1e6
NARROW_RATIO = 4.0
"""D / N must span at least this factor for size and data to be told apart well (arXiv 2605.08541)."""
COMPUTE_FACTOR = 2.0
"""C and 6 N D may differ by this factor: attention, embeddings and the head account for that much."""
PLATEAU_LEVEL = 0.01
LEAST = {"N": 1e3, "D": 1e4, "C": 6e7}
"""Parameters, tokens and FLOPs below which a run is of no language model: its units are others."""


@dataclass(frozen=True)
class Caution:
    """Something wrong: its name, a sentence with the figures, and whether it forbids quoting parameters."""

    name: str
    text: str
    severity: Literal["warning", "refusal"] = "warning"

    def as_dict(self) -> dict[str, str]:
        """The caution as plain JSON types."""
        return {"name": self.name, "text": self.text, "severity": self.severity}


def table_cautions(runs: Runs, given_C: bool, given_D: bool, num_duplicates: int) -> list[Caution]:
    """What the columns alone show: copies, swapped columns, compute that contradicts N and D, a narrow D / N."""
    found = []
    if num_duplicates:
        rows = "1 row is a copy" if num_duplicates == 1 else f"{num_duplicates} rows are copies"
        found.append(
            Caution(
                "duplicated_rows",
                f"{rows} of another in every column; each run was counted once, and "
                "replicates need a column that tells them apart, such as their seed",
            )
        )
    ratio = runs.D / runs.N
    if given_D and np.median(ratio) < 1.0:
        found.append(
            Caution(
                "swapped_columns",
                f"the median run has {np.median(ratio):.3g} tokens a parameter, fewer than one: are the columns N and "
                "D swapped?",
            )
        )
    if given_C and given_D:
        off = runs.C / (FLOPS_PER_PARAMETER_TOKEN * runs.N * runs.D)
        wrong = np.abs(np.log(off)) > np.log(COMPUTE_FACTOR)
        if wrong.any():
            found.append(
                Caution(
                    "compute_inconsistent",
                    f"C differs from 6 N D by more than a factor of {COMPUTE_FACTOR:g} in {wrong.sum()} of {len(runs)} "
                    f"runs (C / 6ND from {off.min():.3g} to {off.max():.3g}): units, or another count of N or D?",
                )
            )
    span = ratio.max() / ratio.min()
    if given_D and span < NARROW_RATIO:
        found.append(
            Caution(
                "narrow_ratio",
                f"D / N varies by a factor of {span:.3g} only; size and data are hard to tell apart (4 or more wanted)",
            )
        )
    return found


def unit_cautions(runs: dict[str, NDArray], given: set[str]) -> list[Caution]:
    """Whether the smallest N, D or C is too small to be in parameters, tokens or FLOPs; `given` are the table's own."""
    small = []
    for letter, values in runs.items():
        if values.min() < LEAST[letter]:
            how = "" if letter in given else f" = C / 6 {'D' if letter == 'N' else 'N'}"
            small.append(f"{letter}{how} is {values.min():.3g}")
    if not small:
        return []
    text = (
        f"the smallest {', '.join(small)}: N counts parameters, D tokens, C FLOPs, and no language model has so few; "
        "where the table counts in millions or billions, write its columns in full (7e9, not 7), since C = 6 N D, "
        "tokens a parameter and predictions follow from them"
    )
    return [Caution("units", text)]


def fit_cautions(fit: Fit, runs: Runs, num_cells: int) -> list[Caution]:
    """What the fit shows: why it is refused, runs far above it, parameters on bounds, starts that disagree."""
    found = []
    k = len(fit.theta)
    if not fit.identified:
        found.append(Caution(_reason_name(fit), fit.reason, "refusal"))
    elif is_plateau(fit, runs, num_cells):
        found.append(
            Caution(
                "plateau",
                f"the losses vary by {100 * np.std(np.log(runs.L)):.3g} % and the {fit.form.name} law explains no more "
                "of that than chance would: these runs lie on a plateau and say nothing about exponents",
                "refusal",
            )
        )
    elif num_cells - k < FEWEST_FOR_INTERVALS:
        found.append(
            Caution(
                "few_runs",
                f"{num_cells} distinct (N, D) for {k} parameters: no interval can be given",
            )
        )
    found += _outlying(fit, runs)
    if fit.status.startswith("bound:"):
        found.append(Caution("parameter_at_bound", fit.reason))
    if fit.status == "not_converged":
        found.append(Caution("not_converged", fit.reason))
    if fit.identified and 2 * fit.agreeing_starts < fit.num_starts:
        found.append(
            Caution(
                "starts_disagree",
                f"only {fit.agreeing_starts} of {fit.num_starts} starts end at the best minimum; there may be a better",
            )
        )
    if fit.identified and fit.condition_number > HIGH_CONDITION:
        found.append(
            Caution(
                "ill_conditioned",
                f"condition number {fit.condition_number:.1e}: the parameters trade off against each other, the loss "
                "they give is known better than they are",
            )
        )
    spread = robust_sd(fit.residuals, k)
    if fit.estimator.kind == "huber" and fit.estimator.delta < 0.5 * spread:
        found.append(
            Caution(
                "small_delta",
                f"delta {fit.estimator.delta:.2g} is below half the noise sd {spread:.2g} of ln L: the estimator is "
                "nearly L1, and its intervals are wider than the noise calls for",
            )
        )
    return found


def is_plateau(fit: Fit, runs: Runs, num_cells: int) -> bool:
    """Whether the law explains no more of ln L than a constant does (F test at PLATEAU_LEVEL), outliers of a robust fit
    apart."""
    weights = runs.weights * fit.inliers
    log_L = np.log(runs.L)
    about_mean = log_L - np.average(log_L, weights=weights)
    whole, left = (float(np.sum(weights * r**2)) for r in (about_mean, fit.residuals))
    if whole <= 1e-18 * len(runs):
        return True
    explained, spare = len(fit.theta) - 1, num_cells - len(fit.theta)
    if spare < 1 or left <= 1e-18 * len(runs):
        return False
    F = max(whole - left, 0.0) / explained / (left / spare)
    return bool(fdtrc(explained, spare, F) > PLATEAU_LEVEL)


def _outlying(fit: Fit, runs: Runs) -> list[Caution]:
    if not fit.identified or len(runs) <= len(fit.theta) + FEWEST_FOR_INTERVALS:
        return []
    residuals = fit.residuals
    if fit.estimator.kind == "l2":  # squares let an outlier pull the law to itself
        residuals = runs.fitted(fit.form, Huber()).residuals
    far = np.flatnonzero(outlying(residuals, len(fit.theta)))
    if not len(far):
        return []
    worst = far[np.argmax(np.abs(residuals[far]))]
    sides = {-1: "below", 1: "above", 0: "above or below"}
    side = sides[int(np.sign(residuals[far]).mean())]
    asked = "losses written down wrong?" if side == "below" else "diverged or unfinished runs left in?"
    return [
        Caution(
            "outlying_runs",
            f"{len(far)} run{'s lie' if len(far) > 1 else ' lies'} more than {FAR_OUT:g} noise sds {side} the law, the "
            f"worst (N = {runs.N[worst]:.4g}, D = {runs.D[worst]:.4g}, L = {runs.L[worst]:.4g}) by "
            f"{100 * residuals[worst]:.3g} %: {asked}",
        )
    ]


def _reason_name(fit: Fit) -> str:
    for word, name in (
        ("collinear", "collinear_design"),
        ("parameters need", "too_few_runs"),
        ("the law", "too_few_scales"),
        ("condition number", "not_told_apart"),
    ):
        if word in fit.reason:
            return name
    return "not_identified"
