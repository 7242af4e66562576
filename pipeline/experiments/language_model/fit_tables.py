"""The tables that put a fit to the test: laws side by side, hold-outs, maps, influence, approaches, next runs."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.experiments.language_model.evidence import CONVENTIONS, FORMS, Evidence
from pipeline.experiments.language_model.forecast import next_points, predictor_of, target_of
from pipeline.fitting.approaches import Agreement, Approach, agreement, three_approaches
from pipeline.fitting.compare import Scored, bic, scored
from pipeline.fitting.influence import influence
from pipeline.fitting.laws import Interaction, Kaplan, NoOffset, Tied
from pipeline.fitting.profile import objective_map, profile
from pipeline.fitting.runs import Runs
from pipeline.fitting.uncertainty import bootstrap
from pipeline.fitting.validation import leave_one_scale_out
from pipeline.params import Fit as FitSettings

OTHERS = (Tied, NoOffset, Kaplan, Interaction)
"""Laws that stand beside the two main forms."""
CONVENTION_RESAMPLES = 200
FLOPS_CONVENTION = "exact_flops"
"""N = C / (6 D) with C the exact training FLOPs, so that C = 6 N D counts attention and head too."""


def fit_tables(settings: FitSettings, evidence: Evidence) -> dict[str, pl.DataFrame]:
    """Name -> table; a table of an unidentified law has no rows and keeps its columns."""
    return {
        "compared": _compared(settings, evidence),
        "rolling": _rolling(evidence),
        "scales_left_out": _scales(evidence),
        "profile_E": _profile(evidence),
        "objective_map": _map(evidence),
        "influence": _influence(evidence),
        "approaches": _approaches(settings, evidence),
        "next_runs": next_points(evidence),
        "draws": _draws(evidence),
    }


def _compared(settings: FitSettings, evidence: Evidence) -> pl.DataFrame:
    floats = ("objective", "rms", "bic", "held_out_rms", "largest_run_error")
    schema = {"law": pl.String, "formula": pl.String, "num_parameters": pl.Int64, "status": pl.String}
    schema |= dict.fromkeys(floats, pl.Float64) | {"reason": pl.String}
    if not len(evidence.runs):
        return pl.DataFrame(schema=schema)
    rows = []
    for form in (*FORMS, *OTHERS):
        trial = evidence.trials.get(form.name)
        if trial:  # fitted and held out already
            entry = Scored(trial.fit, bic(trial.fit), trial.origins)
        else:
            entry = scored(form, evidence.runs, evidence.estimator, 0, settings.seed)
        failed = trial.gate if trial else ""
        known = entry.fit.identified
        rows.append(
            (
                form.name,
                form.formula,
                len(form.parameters()),
                "gate_failed" if failed else entry.fit.status,
                entry.fit.objective if known else None,
                entry.fit.rms if known else None,
                entry.bic if known else None,
                entry.held_out,
                entry.largest_run_error,
                failed or entry.fit.reason or None,
            )
        )
    return pl.DataFrame(rows, schema=schema, orient="row")


def _rolling(evidence: Evidence) -> pl.DataFrame:
    names = ("threshold_C", "until_C", "rms", "bias", "max", "coverage")
    schema = {"law": pl.String} | dict.fromkeys(names, pl.Float64) | {"num_train": pl.Int64, "num_test": pl.Int64}
    rows = [
        (
            name,
            one.threshold,
            one.until,
            one.rms,
            one.bias,
            one.max,
            one.coverage,
            int(one.train.sum()),
            int(one.test.sum()),
        )
        for name, trial in evidence.trials.items()
        for one in trial.origins
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _scales(evidence: Evidence) -> pl.DataFrame:
    """Each size and each token count left out in turn, and how the chosen law, fitted to the rest, predicts it."""
    schema = {"variable": pl.String, "value": pl.Float64, "num_runs": pl.Int64, "rms": pl.Float64, "bias": pl.Float64}
    if not _printable(evidence):
        return pl.DataFrame(schema=schema)
    form, names = evidence.trial.fit.form, tuple(schema)
    rows = [
        tuple(getattr(one, name) for name in names)
        for variable in ("N", "D")
        for one in leave_one_scale_out(form, evidence.runs, evidence.estimator, variable)
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _profile(evidence: Evidence) -> pl.DataFrame:
    columns = ("E", "objective", "statistic", "level")
    if not _printable(evidence):
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64))
    found = profile(evidence.trial.fit, "E")
    level = np.full(len(found.values), found.level)
    return pl.DataFrame(dict(zip(columns, (found.values, found.objective, found.statistic, level), strict=True)))


def _map(evidence: Evidence) -> pl.DataFrame:
    columns = ("alpha", "beta", "excess", "level")
    if not _printable(evidence):
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64))
    found = objective_map(evidence.trial.fit, "alpha", "beta", size=25)
    alpha, beta = np.meshgrid(found.first_values, found.second_values, indexing="ij")
    values = (alpha.ravel(), beta.ravel(), found.excess.ravel(), np.full(alpha.size, found.level))
    return pl.DataFrame(dict(zip(columns, values, strict=True))).with_columns(pl.all().round_sig_figs(6))


def _influence(evidence: Evidence) -> pl.DataFrame:
    """How far each run, left out, moves the parameters and the loss at ten times the largest compute."""
    schema = {"run_id": pl.String, "N": pl.Float64, "D": pl.Float64, "seed": pl.Int64, "cook": pl.Float64}
    if not _printable(evidence):
        return pl.DataFrame(schema=schema | {"change_of_forecast": pl.Float64})
    trial = evidence.trial
    best = target_of(evidence, predictor_of(evidence))
    found = influence(trial.fit, target=(best.N, best.D))
    place = np.argsort(found.label)
    changes = {f"change_of_{name}": found.change[place, i] for i, name in enumerate(found.names)}
    return evidence.points.select("run_id", "N", "D", pl.col("seed").cast(pl.Int64)).with_columns(
        pl.Series("cook", found.cook[place]),
        pl.Series("change_of_forecast", found.target_change[place]),
        *(pl.Series(name, values) for name, values in changes.items()),
    )


def _approaches(settings: FitSettings, evidence: Evidence) -> pl.DataFrame:
    schema = {"convention": pl.String, "approach": pl.String, "a": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    schema |= {"remark": pl.String, "agreement": pl.String, "p": pl.Float64}
    trial = evidence.trial
    if trial is None or not trial.fit.identified or evidence.noise_sd is None:
        return pl.DataFrame(schema=schema)
    runs, rows = evidence.runs, []
    columns = {name: evidence.column(column) for name, column in CONVENTIONS.items()}
    columns[FLOPS_CONVENTION] = evidence.column("C") / (6.0 * runs.D)
    for name, N in columns.items():
        # Replicates of one size share N; exact FLOPs a token differ by rounding alone.
        counted = Runs.of(_grouped(N, runs.N), runs.D, runs.L, None, runs.weights)
        again = counted.fitted(trial.fit.form, evidence.estimator, settings.num_starts)
        clusters, unit = (evidence.tree, "trees") if trial.by_trees else (counted.cell, "(N, D) cells")
        draws = bootstrap(again, clusters, CONVENTION_RESAMPLES, settings.seed, unit) if again.identified else None
        noise = evidence.noise_sd
        three = three_approaches(again, draws, counted, noise, CONVENTION_RESAMPLES, settings.seed)
        found = agreement(three)
        if not trial.printable:
            refused = Approach(
                "parametric", None, None, trial.gate or "these runs leave no interval for its parameters"
            )
            found = Agreement([*three[:-1], refused], None, None, "undetermined")
        for one in found.approaches:
            low, high = one.interval or (None, None)
            rows.append((name, one.name, one.a, low, high, one.remark, found.verdict, found.p))
    return pl.DataFrame(rows, schema=schema, orient="row")


def _draws(evidence: Evidence) -> pl.DataFrame:
    predictor = predictor_of(evidence)
    if predictor is None:
        return pl.DataFrame(schema={"theta_E": pl.Float64})
    names = predictor.form.parameters()
    return pl.DataFrame({f"theta_{name}": predictor.draws[:, i] for i, name in enumerate(names)})


def _grouped(N: np.ndarray, size: np.ndarray) -> np.ndarray:
    """N averaged over the runs of one size."""
    member = np.unique(size, return_inverse=True)[1].reshape(-1)
    return (np.bincount(member, N) / np.bincount(member))[member]


def _printable(evidence: Evidence) -> bool:
    return evidence.trial is not None and evidence.trial.printable
