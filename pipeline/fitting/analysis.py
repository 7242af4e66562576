"""One law on one table of runs, from fit to verdict: what `study fit` and the study's own fit stage both call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.checks import Caution, fit_cautions
from pipeline.fitting.compare import gate
from pipeline.fitting.estimators import Estimator, robust_sd
from pipeline.fitting.holdout import HoldOut
from pipeline.fitting.interval_checks import cluster_cautions, enough_clusters, interval_cautions
from pipeline.fitting.laws import Chinchilla, QForm
from pipeline.fitting.laws.law import Law
from pipeline.fitting.prediction import Predictor
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import FEWEST_FOR_INTERVALS, NUM_STARTS, Fit
from pipeline.fitting.uncertainty import Bootstrap, bootstrap
from pipeline.fitting.validation import Trust, rolling_origin, trust

HOLDOUT_RESAMPLES = 200
"""Resamples of each origin of the rolling hold-out: its intervals need fewer than printed ones."""


@dataclass(frozen=True)
class Analysis:
    """A law fitted to runs, with everything that decides whether and how far to believe it.

    `draws` resample runs (cells), `cluster_draws` the clusters that were named; both None where no interval can be
    given. `origins` are the rolling hold-out, `noise_sd` the sd of ln L about the law. `gate` says why parameters must
    not be quoted though they were identified, "" if they may.
    """

    runs: Runs
    fit: Fit
    draws: Bootstrap | None
    cluster_draws: Bootstrap | None
    origins: list[HoldOut]
    trust: Trust | None
    noise_sd: float
    gate: str
    cautions: list[Caution]

    @property
    def answered(self) -> bool:
        """Whether parameters may be quoted."""
        return not any(caution.severity == "refusal" for caution in self.cautions)

    @property
    def status(self) -> str:
        """The fit's status, or refused:<name> where parameters may not be quoted."""
        refusals = [caution.name for caution in self.cautions if caution.severity == "refusal"]
        if refusals:
            return "not_identified" if not self.fit.identified else f"refused:{refusals[0]}"
        return self.fit.status

    @property
    def predictor(self) -> Predictor | None:
        """What predicts from this analysis, None where parameters may not be quoted or have no interval."""
        draws = self.cluster_draws or self.draws
        if not self.answered or draws is None:
            return None
        return Predictor.of(draws, self.noise_sd, self.trust, self.runs)


def analyse(
    form: type[Law],
    runs: Runs,
    estimator: Estimator,
    num_resamples: int,
    seed: int,
    clusters: NDArray | None = None,
    cluster_name: str = "clusters",
    rolling: bool = True,
    num_starts: int = NUM_STARTS,
) -> Analysis:
    """The analysis of one law; `clusters` (n,) label runs that are not independent, `rolling` asks for the hold-out.

    Raises ValueError for values that are not finite and positive; everything else that is wrong becomes a caution.
    """
    fitted = runs.fitted(form, estimator, num_starts)
    cell = runs.cell
    num_cells = int(cell.max()) + 1
    cautions = fit_cautions(fitted, runs, num_cells)
    refused = any(caution.severity == "refusal" for caution in cautions)
    draws = cluster_draws = None
    origins: list[HoldOut] = []
    if not refused and num_cells - len(fitted.theta) >= FEWEST_FOR_INTERVALS and num_resamples:
        draws = bootstrap(fitted, cell, num_resamples, seed)
        if enough_clusters(fitted, clusters):
            cluster_draws = bootstrap(fitted, clusters, num_resamples, seed, cluster_name)
        cautions += interval_cautions(fitted, cluster_draws or draws)
    cautions += cluster_cautions(fitted, runs, clusters)
    reason = ""
    if not refused:
        if rolling:
            origins = rolling_origin(form, runs, estimator, HOLDOUT_RESAMPLES, seed)
        reason = gate(fitted, origins, _rivals(form, runs, estimator, seed) if rolling else {})
        if reason:
            text = f"the {form.name} form does not describe these runs: {reason}; its exponents are not printed"
            cautions.append(Caution("gate_failed", text, "refusal"))
    trusted = trust(origins)
    if trusted and trusted.factor > 1:
        text = (
            f"{100 * trusted.coverage:.0f} % of {trusted.num_tested} held-out larger runs lie in their nominal 95 % "
            f"intervals; prediction intervals are widened {trusted.factor:.2f} times"
        )
        cautions.append(Caution("low_coverage", text))
    return Analysis(runs, fitted, draws, cluster_draws, origins, trusted, noise_sd(fitted, num_cells), reason, cautions)


def noise_sd(fit: Fit, num_cells: int) -> float:
    """The sd of ln L of one run about the law: for least squares from squares and n - k, else `robust_sd`."""
    k = len(fit.theta)
    if fit.estimator.kind == "l2":
        return fit.rms * float(np.sqrt(num_cells / max(num_cells - k, 1)))
    return robust_sd(fit.residuals, k)


def _rivals(form: type[Law], runs: Runs, estimator: Estimator, seed: int) -> dict[str, list[HoldOut]]:
    """The rolling hold-out of the q-form for the form that it generalises: its gate."""
    if form is not Chinchilla:
        return {}
    origins = rolling_origin(QForm, runs, estimator, 0, seed)
    return {QForm.name: origins} if origins else {}
