"""Answers of the checklist that the judgement gives: the law, the data of the fit, and the fit itself."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.params import LanguageModel
from pipeline.reporting.chapter import Item
from pipeline.reporting.numbers import count, factor, known, percent, probability, significant, whole

HIGH_CONDITION = 1e6
"""Condition number from which on parameters are told apart badly."""
LEVEL = 0.05
NOMINAL = 0.95


def law_items(summary: dict[str, Any], tables: dict[str, pl.DataFrame]) -> list[Item]:
    """The form, its variables and units, its source, its rivals, and where it holds."""
    chosen = summary["laws"][summary["chosen"]]
    shown = known(next(iter(chosen["params"].values())))
    form = f"{chosen['formula']}, {len(chosen['params'])} parameters"
    refused = _named(chosen.get("reason") or "no interval could be given").rstrip(".")
    others = [_named(law) for law in tables["compared"]["law"]] if "compared" in tables else []
    because = _named(summary["chosen_because"]).rstrip(".")
    source = chosen["source"]
    valid = summary.get("valid_from") or {}
    return [
        Item(
            "Which form is fitted?",
            f"{form}." if shown else f"{form}; but it may show no parameters: {refused}.",
            "yes" if shown else "no",
        ),
        Item(
            "In which variables and units?",
            "N in parameters, D in tokens, C = 6ND in FLOPs; L is the validation loss at the end of a run, in "
            "nats/token.",
            "yes",
        ),
        Item("Where does the form come from?", f"{source[:1].upper()}{source[1:]}.", "yes"),
        Item(
            "Were other forms tried, and why is this one preferred?",
            f"{len(others)} in all: {', '.join(others) or 'nothing to fit'}. {because}.",
            "yes" if len(others) > 1 else "no",
        ),
        Item(
            "From which scale on does it hold?",
            f"From N = {count(valid['N_min'])} and D = {count(valid['D_min'])} on residuals stay within the noise "
            f"between seeds (p {probability(valid['lack_of_fit_p'])})."
            if known(valid.get("N_min"))
            else _named(valid.get("rule") or "Not decided."),
            "yes" if known(valid.get("N_min")) else "no",
        ),
    ]


def data_items(
    settings: LanguageModel, summary: dict[str, Any], tables: dict[str, pl.DataFrame], manifest: dict[str, Any]
) -> list[Item]:
    """The points, the checkpoints, the seeds, the exclusions and the validation set."""
    points, excluded = tables["points"], tables.get("excluded", pl.DataFrame())
    noise = summary.get("seed_noise")
    reasons = excluded.group_by("status").len().sort("status").iter_rows() if len(excluded) else ()
    why = ", ".join(f"{number} {status}" for status, number in reasons)
    end = "finished cooldowns" if settings.schedule.kind == "wsd" else "finished runs"
    validation, evaluation = manifest["validation"], settings.evaluation
    return [
        Item(
            "How many points does the fit have?",
            f"{len(points)} in {points.select('N', 'D').n_unique()} (N, D) cells; {summary['num_points']} runs "
            "finished with a loss.",
            "yes",
        ),
        Item(
            "Which checkpoints count?",
            f"Only the last one of {end}: the loss once the rate has come down to zero. Checkpoints on the way are not "
            "points, since their rate had not.",
            "yes",
        ),
        Item(
            "How many seeds, and how large is the noise between them?",
            f"{len(settings.replicates.seeds)} more beside the first for part of the grid: {percent(noise['sd'])} of "
            f"the loss, from {noise['num_cells']} cells with {noise['degrees_of_freedom']} degrees of freedom."
            if noise
            else "One: there is no measure of the noise.",
            "yes" if noise else "no",
        ),
        Item(
            "What was left out, and why?",
            f"{len(excluded)} runs ({why}), each with its reason under Runs." if len(excluded) else "Nothing.",
            "yes",
        ),
        Item(
            "On which text is the loss measured?",
            f"{whole(evaluation.windows)} fixed windows of {settings.model.context} tokens, at most "
            f"{evaluation.windows_per_document} a document, of {whole(validation['documents'])} validation documents "
            "that no run is trained on, split by a hash of their content. Standard error of the level "
            f"{percent(summary.get('level_error'))}, common to all runs.",
            "yes" if known(summary.get("level_error")) else "partly",
        ),
    ]


def fit_items(summary: dict[str, Any]) -> list[Item]:
    """The estimator, its weights and solver, starts, condition, uncertainty, and validation."""
    law = summary["laws"][summary["chosen"]]
    estimator, _, weights = summary["estimator"].partition("; ")
    weights = weights or "every run counts once"
    return [
        Item("What is minimised?", f"{estimator}.", "yes"),
        Item("How are runs weighted?", f"{weights[0].upper()}{weights[1:]}.", "yes"),
        Item(
            "Which solver?",
            "Variable projection on a map of the exponents for the starts, then batched Newton steps with the exact "
            "Hessian; never judged by an optimiser's own report of success.",
            "yes",
        ),
        _starts(law),
        _condition(law),
        _uncertainty(law),
        _noise(law),
        _validated(summary),
        _forecast(summary),
    ]


def _named(text: str) -> str:
    """The text with the names of laws as people write them."""
    return text.replace("q_form", "q-form").replace("no_E", "no E").replace(">=", "≥")


def _starts(law: dict[str, Any]) -> Item:
    question = "From how many starts, and do they agree?"
    agreeing = law.get("start_agreement")
    if not agreeing:
        return Item(question, "No fit was made.", "no")
    first, _, last = agreeing.partition(" of ")
    return Item(question, f"{agreeing} end at the same minimum.", "yes" if 2 * int(first) >= int(last) else "partly")


def _condition(law: dict[str, Any]) -> Item:
    question = "Do the runs tell the parameters apart?"
    condition = law.get("condition_number")
    if not known(condition):
        return Item(question, "No: the condition number has no bound.", "no")
    good = condition < HIGH_CONDITION and law["status"] == "converged"
    status = law["status"].replace("_", " ").replace("bound:", "on its bound: ")
    return Item(
        question,
        f"Condition number {significant(condition)} of the scaled normal equations; status {status}.",
        "yes" if good else "partly",
    )


def _uncertainty(law: dict[str, Any]) -> Item:
    question = "How uncertain are the parameters?"
    if not law.get("num_resamples"):
        return Item(question, "No intervals are shown.", "no")
    trees = any(bounds for bounds in (law.get("tree_intervals") or {}).values())
    text = f"95 % intervals from {whole(law['num_resamples'])} refits to resampled (N, D) cells"
    text += " and to resampled trees, side by side" if trees else "; there are too few trees to resample those"
    failed = law["num_resamples_not_converged"]
    return Item(question, f"{text}. {failed} refits found no flat minimum.", "yes" if trees else "partly")


def _noise(law: dict[str, Any]) -> Item:
    question = "Does noise explain what the law leaves over?"
    test = law.get("lack_of_fit")
    if not test:
        return Item(question, "Not tested: it takes replicate seeds and more cells than parameters.", "no")
    said = "Yes" if test["p"] > LEVEL else "No, it misses more than that"
    text = f"{said}: lack of fit p {probability(test['p'])} over all points, against {percent(test['sd_used'])} noise."
    return Item(question, text, "yes")


def _validated(summary: dict[str, Any]) -> Item:
    question = "Was it tested on larger runs that it had not seen?"
    holdout = summary.get("holdout") or {}
    score = (holdout.get("laws") or {}).get(summary["chosen"]) or {}
    if not known(score.get("rms")):
        return Item(question, "No: too few budgets for a hold-out.", "no")
    text = f"{holdout['num_test']} runs of the largest budgets predicted to {percent(score['rms'])} rms"
    rolling = (summary.get("rolling") or {}).get(summary["chosen"]) or {}
    if known(rolling.get("coverage")):
        tested = rolling["num_tested"]
        text += (
            f"; from several origins {round(rolling['coverage'] * tested)} of {tested} inside nominal 95 % intervals, "
            f"up to {factor(rolling['reach'])} in compute"
        )
    return Item(question, f"{text}.", "yes" if known(rolling.get("coverage")) else "partly")


def _forecast(summary: dict[str, Any]) -> Item:
    question = "How far beyond the runs is anything claimed?"
    if not summary.get("forecast"):
        return Item(question, "Nothing is claimed beyond the runs.", "yes")
    widened = summary["forecast"]["widening"]
    how = f"widened {significant(widened, 2)} times after the hold-outs" if widened > 1 else "not widened"
    reach = ((summary.get("rolling") or {}).get(summary["chosen"]) or {}).get("reach")
    tested = f"the hold-outs tested {factor(reach)}" if known(reach) else "no hold-out tested any of it"
    return Item(
        question,
        f"To 10× the largest compute, with a prediction interval ({how}); {tested}. Beyond that it is a guess.",
        "yes" if known(reach) and reach >= 10 else "partly",
    )
