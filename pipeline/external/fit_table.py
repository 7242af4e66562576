"""A table of runs fitted as asked: everything that is printed, written and shown of it, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from pipeline.external.choice import AUTO, ISOFLOP, Choice, form_of
from pipeline.external.fit_parts import frontier, held_out, recipes, resampled
from pipeline.external.isoflop_table import isoflop_table
from pipeline.external.published import MULTIPLIER, beside
from pipeline.external.read_runs import RunTable, read_runs
from pipeline.external.side_by_side import chosen_law
from pipeline.external.table_file import Sheet
from pipeline.fitting.analysis import HOLDOUT_RESAMPLES, Analysis, analyse
from pipeline.fitting.checks import Caution
from pipeline.fitting.estimators import Estimator
from pipeline.fitting.holdout import HoldOut, compute_quantile, hold_out
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
    runs = table.as_given
    columns = {name: getattr(runs, name) for name in "NDCL"} | {"predicted": predicted}
    points = pl.DataFrame(columns | {"residual": np.log(runs.L / predicted)}).with_columns(pl.all().fill_nan(None))
    points = points.drop(name for name in "ND" if name in table.absent)
    return Fitted(plain(result | {"published": stands}), points.sort(points.columns))


def quantities(result: dict[str, Any]) -> dict[str, tuple[float | None, float | None, Any]]:
    """Name -> (value, standard error, 95 % interval) of all that a fit gives: parameters, exponents, multiplier.

    By cluster where clusters were named, else by cell.
    """
    found = {}
    for part in (result["recipes"], result["frontier"]):
        for name in (MULTIPLIER, "a", "b") if part else ():
            if part.get(name) is not None:
                error = part.get("a_error" if name == "b" else f"{name}_error")
                found[name] = (part[name], error, part[f"{name}_interval"])
    errors, intervals = (result.get(f"cluster_{name}") or result[name] for name in ("standard_errors", "intervals"))
    return found | {name: (value, errors[name], intervals[name]) for name, value in result["params"].items()}


def _law_table(table: RunTable, choice: Choice) -> tuple[dict[str, Any], np.ndarray]:
    """(the result, predicted losses of the runs, nan of a refused fit)."""
    form, compared, cautions, quantile = form_of(choice.law), None, list(table.cautions), choice.holdout
    if choice.law == AUTO:
        best, compared = chosen_law(table.runs, choice.estimator, choice.seed)
        form = best or form
        if choice.published:
            choice.published.check(form)
        text = "the law was chosen on these runs; intervals leave that out"
        if best is None:
            text = f"no law could be tested on held-out larger runs, so none was chosen; {form.name} was fitted"
        cautions.append(Caution("chosen_law", text))
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
    result = _as_dict(table, analysis, choice.estimator, split, quantile, cautions)
    return result | {"compared": compared, "no_intervals": _no_intervals(analysis, choice)}, predicted


def _no_intervals(analysis: Analysis, choice: Choice) -> str | None:
    """Why an answered fit has no intervals, None where it has, or where it is refused."""
    if analysis.draws or not analysis.answered:
        return None
    if not choice.num_resamples:
        return "no resamples were asked for (--bootstrap 0)"
    few = [one.text for one in analysis.cautions if one.name == "few_runs"]
    return few[0] if few else "runs of a fit that stands only by --despite are not resampled"


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
    spans = {name: getattr(table.as_given, name) for name in "NDC" if name not in table.absent}
    return {
        "table": table.path,
        "notes": list(table.notes),
        "columns": table.columns,
        "absent": list(table.absent),
        "span": {name: [x.min(), x.max()] for name, x in spans.items()},
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
        "cluster_standard_errors": clustered.standard_errors() if clustered else None,
        "cluster_intervals": clustered.intervals() if clustered else None,
        "resampling": [one.method for one in (draws, clustered) if one],
        "resampled": resampled(draws, clustered),
        "status": analysis.status,
        "answered": answered,
        "reason": "; ".join(one.text for one in cautions if one.severity == "refusal") or fit.reason,
        "start_agreement": f"{fit.agreeing_starts} of {fit.num_starts}",
        "condition_number": fit.condition_number,
        "rms": fit.rms,
        "noise_sd": analysis.noise_sd if fit.identified else None,
        "holdout": held_out(analysis, split, quantile),
        "frontier": frontier(analysis) if answered else None,
        "recipes": recipes(table.recipes, analysis) if table.recipes else None,
        "minima": None,
        "warnings": [caution.as_dict() for caution in cautions],
        "predictor": predictor.as_dict() if predictor else None,
        "draws": [[float(f"{x:.10g}") for x in row] for row in predictor.draws[:MOST_DRAWS]] if predictor else None,
    }


def _told(asked: Estimator, used: Estimator) -> str:
    """The estimator in words, with the delta that an adaptive one came to."""
    return asked.text.replace("adaptive delta", f"adaptive delta = {used.delta:.4g}") if asked.adaptive else used.text
