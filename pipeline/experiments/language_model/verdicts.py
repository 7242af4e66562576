"""The three findings of the language-model study, each a verdict with the regime over which it was seen to hold."""

from __future__ import annotations

import numpy as np
from scipy.special import fdtri, gammaincinv

from pipeline.experiments.experiment import Finding, Regime, Verdict
from pipeline.experiments.language_model.evidence import Evidence
from pipeline.fitting.lack_of_fit import LackOfFit

HOLDOUT_TOLERANCE = 0.012
"""Held-out rms of ln L up to which extrapolation to the top quarter of compute counts as good: the study's own aim."""
EXPONENT_TOLERANCE = 0.05
"""Difference in the exponent a up to which two approaches count as agreeing: a misallocates N by C_ratio^0.05."""
LEVEL = 0.05
"""Significance level of the lack-of-fit test."""


def findings(evidence: Evidence) -> list[Finding]:
    """The findings: the power law itself, its extrapolation in compute, and the compute-optimal exponent."""
    return [_power_law(evidence), _extrapolation(evidence), _optimal_exponent(evidence)]


def _power_law(evidence: Evidence) -> Finding:
    trial = evidence.trial
    N, D = evidence.column("N"), evidence.column("D")
    sd = evidence.noise.sd if evidence.noise else None
    measured = tolerance = None
    verdict: Verdict = "undetermined"
    bounds: tuple[float, float] | None = None
    if trial is None:
        said = "No run finished with a loss, so no law can be fitted."
    elif not trial.fit.identified:
        said = f"These {len(evidence.points)} runs do not identify the law: {trial.fit.reason}."
    elif sd is None:
        measured = trial.fit.rms
        said = f"The {_name(evidence)} leaves {_percent(measured)} rms, but no replicate seeds measure the noise."
    else:
        valid = evidence.valid
        test = valid.lack_of_fit if valid else trial.lack_of_fit
        whole = f"Over all {len(N)} runs the {_name(evidence)} leaves {_percent(trial.fit.rms)} rms"
        if test is None:
            said = f"{whole}, but no run is left over to test it."
        else:
            num_cells = test.degrees_of_freedom + len(trial.fit.theta)
            measured = sd * float(np.sqrt(test.chi2 / num_cells))
            tolerance = sd * float(np.sqrt(_largest_chi2(test) / num_cells))
            verdict = "holds" if valid else "violated" if trial.subsets else "undetermined"
            bounds = (valid.N_min, valid.D_min) if valid else None
            said = f"{whole}; {_where(evidence)} (between-seed noise {_percent(sd)}, lack of fit p = {test.p:.2g})."
    regime = []
    for variable, unit, values, place in (("N", "parameters", N, 0), ("D", "tokens", D, 1)):
        inside = values[values >= bounds[place]] if bounds else np.array([])
        below = values[values < bounds[place]] if bounds else values
        regime.append(
            _regime(variable, unit, inside, float(below.max()) if len(below) and verdict != "undetermined" else None)
        )
    return Finding(
        law="loss as a power law of size and data",
        statement=said,
        formula=_formula(evidence),
        source="" if trial is None else trial.fit.form.source,
        unit="relative (rms of ln L, cells weighted by their seeds)",
        predicted=sd,
        measured=measured,
        interval=None,
        tolerance=tolerance,
        tolerance_kind="at_most",
        verdict=verdict,
        regime=regime,
        figure="loss_against_compute",
    )


def _extrapolation(evidence: Evidence) -> Finding:
    held = evidence.trial.holdout if evidence.trial else None
    measured = interval = None
    verdict: Verdict = "undetermined"
    C = evidence.column("C_law")
    regime = [_regime("C", "FLOPs", np.array([]), None)]
    if held is None:
        said = "Too few runs for a hold-out: the law is not identified below the compute threshold."
    else:
        measured, interval = held.rms, held.rms_interval
        tested = C[held.test]
        if (interval[1] - interval[0]) / (2 * 1.96) <= HOLDOUT_TOLERANCE:
            far = interval[0] > HOLDOUT_TOLERANCE
            verdict = "holds" if measured <= HOLDOUT_TOLERANCE else "violated" if far else "undetermined"
        wrong = tested[np.abs(held.error) > HOLDOUT_TOLERANCE]
        broke_at = float(wrong.min()) if verdict == "violated" and len(wrong) else None
        seen = C if broke_at is None else C[C < broke_at]
        regime = [_regime("C", "FLOPs", seen, broke_at)]
        said = (
            f"Fitted to runs of at most {held.threshold:.3g} FLOPs, the {_name(evidence)} predicts the "
            f"{len(tested)} larger ones to {_percent(held.rms)} rms, {_percent(held.max)} at worst; "
            f"{_percent(held.coverage, 0)} of them lie in their 95 % prediction interval."
        )
    return Finding(
        law="the law extrapolates in compute",
        statement=said,
        formula=_formula(evidence),
        source="hold-out by compute; tolerance: the aim of this study",
        unit="relative (rms of ln L)",
        predicted=0.0,
        measured=measured,
        interval=interval,
        tolerance=HOLDOUT_TOLERANCE,
        tolerance_kind="at_most",
        verdict=verdict,
        regime=regime,
        figure="predicted_against_measured",
    )


def _optimal_exponent(evidence: Evidence) -> Finding:
    trial, iso = evidence.trial, evidence.isoflop
    predicted = trial.fit.law.size_exponent if trial and trial.printable else None
    measured, interval = iso.exponent, iso.interval
    verdict: Verdict = "undetermined"
    C = np.array([part.C for part in iso.minima])
    if predicted is None:
        said = "The law is not identified, so it predicts no compute-optimal size."
    elif measured is None or interval is None:
        accepted = {0: "no isoFLOP minimum was", 1: "one isoFLOP minimum was"}.get(
            len(iso.minima), f"{len(iso.minima)} isoFLOP minima were"
        )
        said = f"The law gives a = {predicted:.3f}, but {accepted} accepted, too few to measure a slope."
    else:
        draws = trial.independent_draws
        low, high = draws.interval(draws.size_exponent(), predicted)
        error = float(np.hypot(high - low, interval[1] - interval[0])) / (2 * 1.96)
        apart = abs(predicted - measured)
        if error <= EXPONENT_TOLERANCE:
            verdict = "holds" if apart <= EXPONENT_TOLERANCE else "violated" if apart > 2 * error else "undetermined"
        said = (
            f"N*(C) grows as C^a with a = {predicted:.3f} (95 % {low:.3f} to {high:.3f}) by the law and "
            f"{measured:.3f} ({interval[0]:.3f} to {interval[1]:.3f}) by {len(C)} isoFLOP minima; "
            f"the standard error of their difference is {error:.3f}."
        )
    return Finding(
        law="compute-optimal size",
        statement=said,
        formula="N*(C) = G (C / 6)^a, a = beta / (alpha + beta)",
        source="Hoffmann et al. 2022, arXiv 2203.15556, eq. 4 and approach 2",
        unit="exponent",
        predicted=predicted,
        measured=measured,
        interval=interval,
        tolerance=EXPONENT_TOLERANCE,
        verdict=verdict,
        regime=[_regime("C", "FLOPs", C if verdict == "holds" else np.array([]), None)],
        figure="exponent_by_approach",
    )


def _largest_chi2(test: LackOfFit) -> float:
    """The chi2 at which lack of fit is significant: of F, where the noise sd was itself measured."""
    if test.noise_freedom:
        return test.degrees_of_freedom * float(fdtri(test.degrees_of_freedom, test.noise_freedom, 1 - LEVEL))
    return float(2 * gammaincinv(test.degrees_of_freedom / 2, 1 - LEVEL))


def _where(evidence: Evidence) -> str:
    valid = evidence.valid
    if not evidence.trial.subsets:
        return "a grid of fewer than four sizes or four token counts is too small to say where it holds"
    if valid is None:
        return "on no subset of at least four sizes and four token counts is that within the noise"
    if valid.num_points == len(evidence.points):
        return "that is within the noise, from the smallest scale on"
    return (
        f"it holds within the noise from N = {valid.N_min:,.0f} parameters and D = {valid.D_min:,.0f} tokens on, "
        f"{valid.num_points} runs with {_percent(valid.rms)} rms"
    )


def _name(evidence: Evidence) -> str:
    return {"chinchilla": "Chinchilla law", "q_form": "q-form"}.get(evidence.chosen, evidence.chosen)


def _formula(evidence: Evidence) -> str:
    return evidence.trial.fit.form.formula if evidence.trial else ""


def _regime(variable: str, unit: str, values: np.ndarray, broke_at: float | None) -> Regime:
    low, high = (float(values.min()), float(values.max())) if len(values) else (None, None)
    return Regime(variable, unit, low, high, broke_at)


def _percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"
