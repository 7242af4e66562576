"""Fit a law to a table of finished runs: parameters with intervals, hold-out, warnings; or a named refusal."""

from __future__ import annotations

import argparse
import re
from typing import Any

import numpy as np

from pipeline.command.read_runs import RunTable, read_runs
from pipeline.command.side_by_side import chosen_law
from pipeline.command.words import fit_text, write_json
from pipeline.fitting.analysis import HOLDOUT_RESAMPLES, Analysis, analyse
from pipeline.fitting.checks import Caution
from pipeline.fitting.estimators import Estimator, estimator_named
from pipeline.fitting.holdout import HoldOut, compute_quantile, hold_out
from pipeline.fitting.laws import LAWS, Chinchilla, Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.solver import NUM_STARTS
from pipeline.plain import plain

ALIASES = {"additive": "chinchilla", "saturating": "saturating_C", "broken": "broken_C", "bnsl": "broken_C"}
MOST_DRAWS = 1_000
"""Draws kept in the JSON: its predictions need no more."""
FEWEST_DRAWS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `study fit`."""
    parser.add_argument("table", metavar="TABLE", help="csv, tsv, jsonl (also .gz, .zst) or parquet; one row a run")
    for letter, what in (("N", "parameters"), ("D", "training tokens"), ("L", "loss"), ("C", "training FLOPs")):
        parser.add_argument(f"--{letter}", metavar="COL", help=f"column of {what}; default: a usual name")
    parser.add_argument(
        "--law", default="chinchilla", help=f"one of {', '.join(LAWS)}; default chinchilla; auto: by hold-out"
    )
    parser.add_argument(
        "--estimator", default="huber", help="huber, l1, l2, l2_linear or asymmetric; default huber, delta adaptive"
    )
    parser.add_argument("--delta", help="threshold of huber and asymmetric; default: 1.345 noise sds")
    parser.add_argument("--bootstrap", default="1000", metavar="R", help="resamples; 0 for no intervals; default 1000")
    parser.add_argument("--cluster", metavar="COL", help="column that labels runs which are not independent, or size")
    parser.add_argument("--recipe", default="recipe", metavar="COL", help="column of the two recipes of two_recipes")
    parser.add_argument(
        "--holdout",
        metavar="Q",
        nargs="?",
        const="0.75",
        help="also fit below the Q quantile of C (0.75 unless said) and test above; 0: no hold-out at all",
    )
    parser.add_argument("--seed", default="42", help="seed of the resamples; default 42")
    parser.add_argument("--starts", default=str(NUM_STARTS), help=f"starts of the fit; default {NUM_STARTS}")
    parser.add_argument("--json", metavar="OUT", help="also write everything, with the draws, to this file")


def command(arguments: argparse.Namespace) -> int:
    """0 after a fit, 1 after a refusal; prints either. Raises ValueError in one line for a fault of the user's."""
    automatic = _letters(arguments.law) == "auto"
    form = Chinchilla if automatic else law_named(arguments.law)
    delta = None if arguments.delta is None else _number("--delta", arguments.delta)
    estimator = estimator_named(arguments.estimator, delta)
    num_resamples = _whole("--bootstrap", arguments.bootstrap, 0)
    if 0 < num_resamples < FEWEST_DRAWS:
        raise ValueError(f"--bootstrap: {num_resamples} is neither 0 nor at least {FEWEST_DRAWS}")
    seed, starts = _whole("--seed", arguments.seed, 0), _whole("--starts", arguments.starts, 1)
    quantile = None if arguments.holdout is None else _number("--holdout", arguments.holdout)
    if quantile is not None and not 0 <= quantile < 1:
        raise ValueError(f"--holdout: {arguments.holdout} is not in [0, 1)")
    if seed >= 2**32:
        raise ValueError(f"--seed: {seed} is not below 2^32")
    named = {letter: getattr(arguments, letter) for letter in "NDLC"}
    table = read_runs(arguments.table, form, named, arguments.cluster, arguments.recipe)
    compared = None
    if automatic:
        form, compared = chosen_law(table.runs, estimator, seed)
        table.cautions.append(Caution("chosen_law", "the law was chosen on these runs; intervals leave that out"))
    analysis = analyse(
        form,
        table.runs,
        estimator,
        num_resamples,
        seed,
        table.clusters,
        f"values of {arguments.cluster}",
        quantile != 0,
        starts,
    )
    split, cautions = None, [*table.cautions, *analysis.cautions]
    if quantile and analysis.fit.identified:
        threshold = compute_quantile(table.runs, quantile)
        split = hold_out(
            form, table.runs, estimator, threshold, min(num_resamples, HOLDOUT_RESAMPLES), seed, num_starts=starts
        )
        if split is None:
            text = f"the runs below the {quantile:g} quantile of C do not identify the law, or none lies above"
            cautions.append(Caution("no_holdout", text))
    if quantile == 0:
        cautions.append(Caution("untested", "no hold-out was made: nothing here says how the law predicts larger runs"))
    result = plain(as_dict(table, analysis, estimator, split, quantile, cautions) | {"compared": compared})
    print(fit_text(result))
    if arguments.json:
        write_json(arguments.json, result)
    return 0 if analysis.answered else 1


def law_named(name: str) -> type[Law]:
    """The law of a name, whatever its case, hyphens and underscores. Raises ValueError for another."""
    known = {_letters(key): key for key in LAWS} | ALIASES
    key = known.get(_letters(name))
    if key is None:
        raise ValueError(f"--law: {name!r} is none of {', '.join(LAWS)}")
    return LAWS[key]


def as_dict(
    table: RunTable,
    analysis: Analysis,
    estimator: Estimator,
    split: HoldOut | None,
    quantile: float | None,
    cautions: list[Caution],
) -> dict[str, Any]:
    """Everything that is printed and written; numbers of a refused fit are None."""
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
    found |= {"C": C, "params": N, "params_interval": None, "tokens": C / (FLOPS_PER_PARAMETER_TOKEN * N)}
    found["tokens_per_parameter"] = found["tokens"] / N
    if draws:
        low, high = (float(end[0]) for end in draws.band(draws.optimal_size(C, columns), [N]))
        found["params_interval"] = (low, high)
        if a is not None:
            low, high = draws.interval(draws.size_exponent(), a)
            found |= {"a_interval": (low, high), "b_interval": (1 - high, 1 - low)}
    return found


def _recipes(table: RunTable, analysis: Analysis) -> dict[str, Any]:
    """Which recipe is which, and how much compute the second saves: m_N m_D."""
    found: dict[str, Any] = {"first": table.recipes[0], "second": table.recipes[1]}
    draws = analysis.cluster_draws or analysis.draws
    multiplier = interval = None
    if analysis.answered:
        multiplier = analysis.fit.law.compute_multiplier
        if draws:
            interval = draws.interval(draws.values["m_N"] * draws.values["m_D"], multiplier)
    return found | {"compute_multiplier": multiplier, "compute_multiplier_interval": interval}


def _told(asked: Estimator, used: Estimator) -> str:
    """The estimator in words, with the delta that an adaptive one came to."""
    return asked.text.replace("adaptive delta", f"adaptive delta = {used.delta:.4g}") if asked.adaptive else used.text


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _whole(option: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a whole number") from None
    if value < least:
        raise ValueError(f"{option}: {value} is below {least}")
    return value


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a number") from None
