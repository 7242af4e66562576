"""A table of runs fitted as asked: everything that is printed, written and shown of it, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from pipeline.external.choice import AUTO, ISOFLOP, Choice, form_of
from pipeline.external.isoflop_table import isoflop_table
from pipeline.external.published import MULTIPLIER, beside
from pipeline.external.read_runs import RunTable, read_runs
from pipeline.external.side_by_side import chosen_law
from pipeline.external.table_file import Sheet
from pipeline.fitting.analysis import HOLDOUT_RESAMPLES, Analysis, analyse
from pipeline.fitting.checks import Caution
from pipeline.fitting.estimators import Estimator
from pipeline.fitting.holdout import HoldOut, compute_quantile, hold_out
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.plain import plain

MOST_DRAWS = 1_000
"""Draws that are written: predictions need no more."""


@dataclass(frozen=True)
class Fitted:
    """A fitted table: `result` in plain JSON types, `points` one row a run: N, D, C, L, predicted, residual of ln."""

    result: dict[str, Any]
    points: pl.DataFrame


def fit_table(sheet: Sheet, choice: Choice) -> Fitted:
    """The fit of the rows in `sheet`; what cannot be fitted is a refusal in the result.

    Raises ValueError in one line for columns and values that cannot be, and for published numbers of another law.
    """
    choice.check()
    table = read_runs(sheet, form_of(choice.law), choice.columns, choice.cluster, choice.recipe)
    if choice.law == ISOFLOP:
        result = isoflop_table(table, choice.noise, choice.num_resamples, choice.seed)
        predicted = np.full(len(table.runs), np.nan)
    else:
        result, predicted = _law_table(table, choice)
    stands = beside(choice.published, quantities(result)) if choice.published else None
    runs = table.runs
    columns = {name: getattr(runs, name) for name in "NDCL"} | {"predicted": predicted}
    points = pl.DataFrame(columns | {"residual": np.log(runs.L / predicted)}).with_columns(pl.all().fill_nan(None))
    points = points.drop(name for name in "ND" if name in table.absent)
    return Fitted(plain(result | {"published": stands}), points.sort(points.columns))


def quantities(result: dict[str, Any]) -> dict[str, tuple[float | None, float | None, Any]]:
    """Name -> (value, standard error, 95 % interval) of all that a fit gives: parameters, exponents, multiplier."""
    found = {}
    for part in (result["recipes"], result["frontier"]):
        for name in (MULTIPLIER, "a", "b") if part else ():
            if part.get(name) is not None:
                error = part.get("a_error" if name == "b" else f"{name}_error")
                found[name] = (part[name], error, part[f"{name}_interval"])
    own = {
        name: (value, result["standard_errors"][name], result["intervals"][name])
        for name, value in result["params"].items()
    }
    return found | own


def _law_table(table: RunTable, choice: Choice) -> tuple[dict[str, Any], np.ndarray]:
    """(the result, predicted losses of the runs, nan of a refused fit)."""
    form, compared, cautions, quantile = form_of(choice.law), None, list(table.cautions), choice.holdout
    if choice.law == AUTO:
        form, compared = chosen_law(table.runs, choice.estimator, choice.seed)
        if choice.published:
            choice.published.check(form)
        cautions.append(Caution("chosen_law", "the law was chosen on these runs; intervals leave that out"))
    analysis = analyse(
        form,
        table.runs,
        choice.estimator,
        choice.num_resamples,
        choice.seed,
        table.clusters,
        f"values of {choice.cluster}",
        quantile != 0,
        choice.num_starts,
    )
    analysis = replace(analysis, cautions=[_overruled(one, choice.despite) for one in analysis.cautions])
    split, cautions = None, [*cautions, *analysis.cautions]
    if quantile and analysis.fit.identified:
        threshold = compute_quantile(table.runs, quantile)
        resamples = min(choice.num_resamples, HOLDOUT_RESAMPLES)
        split = hold_out(
            form, table.runs, choice.estimator, threshold, resamples, choice.seed, num_starts=choice.num_starts
        )
        if split is None:
            text = f"the runs below the {quantile:g} quantile of C do not identify the law, or none lies above"
            cautions.append(Caution("no_holdout", text))
    if quantile == 0:
        cautions.append(Caution("untested", "no hold-out was made: nothing here says how the law predicts larger runs"))
    runs = table.runs
    predicted = (
        analysis.fit.law.loss(runs.N, runs.D, **runs.columns) if analysis.answered else np.full(len(runs), np.nan)
    )
    return _as_dict(table, analysis, choice.estimator, split, quantile, cautions) | {"compared": compared}, predicted


def _overruled(caution: Caution, despite: tuple[str, ...]) -> Caution:
    """A refusal that is not to be one, as a warning that says so."""
    if caution.severity != "refusal" or caution.name not in despite:
        return caution
    return replace(caution, severity="warning", text=f"refused, but for --despite {caution.name}: {caution.text}")


def _as_dict(
    table: RunTable,
    analysis: Analysis,
    estimator: Estimator,
    split: HoldOut | None,
    quantile: float | None,
    cautions: list[Caution],
) -> dict[str, Any]:
    fit, runs, answered = analysis.fit, table.runs, analysis.answered
    form, draws, clustered = (
        fit.form,
        analysis.draws if answered else None,
        analysis.cluster_draws if answered else None,
    )
    names = form.parameters()
    predictor = analysis.predictor
    spans = {"N": runs.N, "D": runs.D, "C": runs.C}
    return {
        "table": table.path,
        "notes": list(table.notes),
        "columns": table.columns,
        "absent": list(table.absent),
        "span": {name: [x.min(), x.max()] for name, x in spans.items() if name not in table.absent},
        "num_rows": table.num_rows,
        "num_runs": len(runs),
        "law": form.name,
        "formula": form.formula,
        "source": form.source,
        "estimator": _told(estimator, fit.estimator),
        "delta": fit.estimator.delta,
        "objective": fit.objective if answered else None,
        "params": {name: getattr(fit.law, name) if answered else None for name in names},
        "standard_errors": draws.standard_errors() if draws else dict.fromkeys(names),
        "intervals": draws.intervals() if draws else dict.fromkeys(names),
        "cluster_intervals": clustered.intervals() if clustered else None,
        "resampling": [one.method for one in (draws, clustered) if one],
        "status": analysis.status,
        "answered": answered,
        "reason": "; ".join(one.text for one in cautions if one.severity == "refusal") or fit.reason,
        "start_agreement": f"{fit.agreeing_starts} of {fit.num_starts}",
        "condition_number": fit.condition_number,
        "rms": fit.rms,
        "noise_sd": analysis.noise_sd if fit.identified else None,
        "holdout": _held_out(analysis, split, quantile),
        "frontier": _frontier(analysis) if answered else None,
        "recipes": _recipes(table, analysis) if table.recipes else None,
        "minima": None,
        "warnings": [caution.as_dict() for caution in cautions],
        "predictor": predictor.as_dict() if predictor else None,
        "draws": [[float(f"{x:.10g}") for x in row] for row in predictor.draws[:MOST_DRAWS]] if predictor else None,
    }


def _held_out(analysis: Analysis, split: HoldOut | None, quantile: float | None) -> dict[str, Any]:
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


def _frontier(analysis: Analysis) -> dict[str, Any] | None:
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
            low, high = draws.interval(exponents, a)
            found |= {"a_interval": (low, high), "b_interval": (1 - high, 1 - low)}
            found["a_error"] = float(np.std(exponents, ddof=1))
    return found


def _recipes(table: RunTable, analysis: Analysis) -> dict[str, Any]:
    """Which recipe is which, and how much compute the second saves: m_N m_D."""
    found: dict[str, Any] = {"first": table.recipes[0], "second": table.recipes[1]}
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


def _told(asked: Estimator, used: Estimator) -> str:
    """The estimator in words, with the delta that an adaptive one came to."""
    return asked.text.replace("adaptive delta", f"adaptive delta = {used.delta:.4g}") if asked.adaptive else used.text
