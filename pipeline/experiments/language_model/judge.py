"""What the runs of the language-model study say: findings, a summary of plain JSON types, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Judgement
from pipeline.experiments.language_model.evidence import CONVENTIONS, FORMS, Evidence, Trial, gather
from pipeline.experiments.language_model.forecast import planned, predictor_of
from pipeline.experiments.language_model.tables import SIGNIFICANT_DIGITS, tables
from pipeline.experiments.language_model.verdicts import LEVEL, findings
from pipeline.fitting.lack_of_fit import LackOfFit
from pipeline.fitting.laws import Law
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import raw_laws
from pipeline.fitting.uncertainty import Bootstrap
from pipeline.fitting.validation import trust
from pipeline.params import Fit as FitSettings
from pipeline.plain import plain


def judge(settings: FitSettings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The judgement of the study from results/runs.parquet (`runs`); the law needs end points alone, not `curves`.

    Too few points never raise: laws then have status not_identified and null numbers, and verdicts are undetermined.
    """
    evidence = gather(settings, runs)
    made = tables(settings, evidence)
    summary = _summary(settings, evidence) | {"planned": planned(evidence, made["next_runs"])}
    return Judgement(findings(evidence), plain(summary, SIGNIFICANT_DIGITS), made)


def _summary(settings: FitSettings, evidence: Evidence) -> dict[str, Any]:
    points = evidence.points
    relative = {name: (points[name] / points["loss"]).drop_nulls() for name in ("loss_se_level", "loss_se_compared")}
    held = {name: trial.holdout for name, trial in evidence.trials.items()}
    tested = next((one for one in held.values() if one), None)
    predictor = predictor_of(evidence)
    return {
        "convention": settings.convention,
        "estimator": f"{_estimator(evidence)}; every (N, D) counts once, whatever its number of seeds",
        "num_points": len(points),
        "num_excluded": len(evidence.excluded),
        "seed_noise": _seed_noise(evidence),
        "level_error": relative["loss_se_level"].max(),
        "compared_error": relative["loss_se_compared"].max(),
        "laws": {form.name: _law(form, evidence.trials.get(form.name)) for form in FORMS},
        "chosen": evidence.chosen,
        "chosen_because": evidence.chosen_because,
        "holdout": {
            "quantile": settings.holdout_quantile,
            "threshold_C": tested.threshold if tested else None,
            "num_train": int((~tested.test).sum()) if tested else None,
            "num_test": int(tested.test.sum()) if tested else None,
            "laws": {
                form.name: {
                    "rms": one.rms if one else None,
                    "max": one.max if one else None,
                    "rms_interval": one.rms_interval if one else None,
                    "interval_coverage": one.coverage if one else None,
                }
                for form in FORMS
                for one in [held.get(form.name)]
            },
        },
        "rolling": {name: _rolling(trial) for name, trial in evidence.trials.items()},
        "forecast": predictor.as_dict() if predictor else None,
        "valid_from": _valid_from(evidence),
        "frontier": _frontier(evidence),
        "isoflop": {
            "exponent_a": evidence.isoflop.exponent,
            "interval": evidence.isoflop.interval,
            "num_budgets": len(evidence.isoflop.slices),
            "refused": [{"C": part.C, "reason": part.reason} for part in evidence.isoflop.refused],
        },
        "conventions": {name: _convention(settings, evidence, name) for name in CONVENTIONS},
    }


def _law(form: type[Law], trial: Trial | None) -> dict[str, Any]:
    names = form.parameters()
    one, draws = (trial.fit, trial.draws if trial.printable else None) if trial else (None, None)
    unknown = dict.fromkeys(names)
    at_bound = [name for name, inside in zip(names, one.inside, strict=True) if not inside] if draws else []
    status = one.status if one else "not_identified"
    return {
        "form": form.name,
        "formula": form.formula,
        "source": form.source,
        "params": {name: getattr(one.law, name) for name in names} if draws else unknown,
        "N_scale": 1.0,
        "D_scale": 1.0,
        "at_bound": at_bound,
        **_uncertainty("", draws, names, at_bound),
        **_uncertainty("tree_", trial.tree_draws if draws else None, names, at_bound),
        "num_resamples": len(draws.theta) if draws else 0,
        "num_resamples_not_converged": draws.unreached if draws else 0,
        "objective": one.objective if draws else None,
        "delta": one.estimator.delta if draws else None,
        "rms": one.rms if one and one.identified else None,
        "max": one.max if one and one.identified else None,
        "start_agreement": f"{one.agreeing_starts} of {one.num_starts}" if one else None,
        "status": "gate_failed" if trial and trial.gate else status,
        "reason": (trial.gate or one.reason or None) if one else "no run finished with a loss",
        "condition_number": one.condition_number if one else None,
        "lack_of_fit": _test(trial.lack_of_fit if trial else None),
        "lack_of_fit_in_trees": _test(trial.lack_of_fit_in_trees if trial else None),
    }


def _uncertainty(prefix: str, draws: Bootstrap | None, names: Sequence[str], at_bound: list[str]) -> dict[str, dict]:
    """Standard errors and intervals by name; None of a parameter at its bound, whose resamples are there as well."""
    nothing = dict.fromkeys(at_bound) if draws else dict.fromkeys(names)
    return {
        f"{prefix}standard_errors": (draws.standard_errors() if draws else {}) | nothing,
        f"{prefix}intervals": (draws.intervals() if draws else {}) | nothing,
    }


def _estimator(evidence: Evidence) -> str:
    trial = evidence.trial
    return (trial.fit.estimator if trial else evidence.estimator).text


def _rolling(trial: Trial) -> dict[str, Any]:
    found = trust(trial.origins)
    if found is None:
        return dict.fromkeys(("coverage", "num_tested", "p", "widening", "reach"))
    return {
        "coverage": found.coverage,
        "num_tested": found.num_tested,
        "p": found.p,
        "widening": found.factor,
        "reach": found.reach,
    }


def _test(test: LackOfFit | None) -> dict[str, Any] | None:
    if test is None:
        return None
    return {"chi2": test.chi2, "degrees_of_freedom": test.degrees_of_freedom, "p": test.p, "sd_used": test.sd_used}


def _seed_noise(evidence: Evidence) -> dict[str, Any] | None:
    noise = evidence.noise
    if noise is None:
        return None
    return {
        "sd": noise.sd,
        "degrees_of_freedom": noise.degrees_of_freedom,
        "num_cells": noise.num_cells,
        "within_tree_sd": noise.within_tree_sd,
        "within_tree_degrees_of_freedom": noise.within_tree_degrees_of_freedom,
        "method": "pooled sd of ln L between seeds at one (N, D); within a tree: after its mean offset is removed",
    }


def _valid_from(evidence: Evidence) -> dict[str, Any]:
    valid, trial = evidence.valid, evidence.trial
    entry = dict.fromkeys(("N_min", "D_min", "num_points", "lack_of_fit_p", "rms", "params"))
    entry["law"] = evidence.chosen
    if trial is None or not trial.fit.identified:
        return entry | {"rule": "Not decided: the runs do not identify the law."}
    if evidence.noise is None:
        return entry | {"rule": "Not decided: without replicate seeds there is no noise to judge residuals by."}
    if not trial.subsets:
        return entry | {"rule": "Not decided: it takes at least four sizes and four token counts."}
    bent = [f"{name} >= {floor:.4g}" for name, floor in evidence.floors.items() if floor]
    rule = (
        f"the largest set of runs N >= N_min, D >= D_min, of at least four sizes and four token counts, on which the "
        f"{evidence.chosen} law leaves no lack of fit (p > {LEVEL}) against the noise between seeds"
        f"{', and with ' + ' and '.join(bent) + ' because below that the local exponent rises' if bent else ''}. "
        "The cut-off was sought on these same runs, so its p is not a fresh test; every run stays in the headline fit "
        "and in the figures."
    )
    if valid is None:
        return entry | {"rule": f"No such set exists. Sought: {rule}"}
    (law,) = raw_laws(trial.fit.form, valid.theta[None], trial.fit.points)
    params = {name: getattr(law, name) if trial.printable else None for name in law.parameters()}
    return entry | {
        "N_min": valid.N_min,
        "D_min": valid.D_min,
        "num_points": valid.num_points,
        "lack_of_fit_p": valid.lack_of_fit.p,
        "rms": valid.rms,
        "params": params,
        "rule": f"This is {rule}",
    }


def _frontier(evidence: Evidence) -> dict[str, Any]:
    best, trial = evidence.frontier, evidence.trial
    names = ("a", "a_interval", "b", "b_interval", "tokens_per_parameter_at_largest_C", "interval", "C_range")
    names = (*names, "by_trees")
    if best is None or trial is None or trial.draws is None:
        return dict.fromkeys(names)
    C = evidence.column("C_law")
    a = trial.fit.law.size_exponent
    draws = trial.independent_draws
    low, high = draws.interval(draws.size_exponent(), a)
    largest = int(np.argmin(np.abs(np.log(best.C / C.max()))))
    ratio_low, ratio_high = best.tokens_per_parameter_interval
    interval = (ratio_low[largest], ratio_high[largest])
    values = (a, (low, high), 1 - a, (1 - high, 1 - low), best.tokens_per_parameter[largest], interval)
    return dict(zip(names, (*values, (C.min(), C.max()), trial.by_trees), strict=True))


def _convention(settings: FitSettings, evidence: Evidence, name: str) -> dict[str, Any]:
    """The chosen form with N by another convention: its parameters, rms, and held-out rms on the same held-out runs."""
    trial = evidence.trial
    form = next(form for form in FORMS if form.name == evidence.chosen)
    entry: dict[str, Any] = dict.fromkeys((*form.parameters(), "a", "rms", "holdout_rms"))
    if trial is None or not trial.fit.identified:
        return entry | {"status": "not_identified"}
    if trial.gate:
        return entry | {"status": "gate_failed"}
    runs = evidence.runs
    counted = Runs.of(evidence.column(CONVENTIONS[name]), runs.D, runs.L, None, runs.weights)
    again = counted.fitted(form, evidence.estimator, settings.num_starts)
    entry |= {key: getattr(again.law, key) for key in form.parameters()}
    entry |= {"a": again.law.size_exponent, "rms": again.rms, "status": again.status}
    if trial.holdout:
        below = counted.subset(trial.holdout.train).fitted(form, evidence.estimator, settings.num_starts)
        above = counted.subset(trial.holdout.test)
        error = np.log(above.L / below.law.loss(above.N, above.D))
        entry["holdout_rms"] = float(np.sqrt(np.average(error**2, weights=above.weights)))
    return entry
