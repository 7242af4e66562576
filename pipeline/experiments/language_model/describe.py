"""The study in words and headline numbers, every one of them out of the judgement."""

from __future__ import annotations

import polars as pl

from pipeline.experiments.language_model.check_tables import check_tables
from pipeline.experiments.language_model.explorer import explorer
from pipeline.experiments.language_model.in_short import in_short
from pipeline.experiments.language_model.law_tables import law_tables, width_ratio
from pipeline.experiments.language_model.methods import FORMULAS, methods
from pipeline.experiments.language_model.outlook import (
    as_fact,
    forecast_fact,
    forecast_sentence,
    in_words,
    predictor_of,
)
from pipeline.experiments.language_model.scene import CONVENTIONS, LAW_NAMES, law_of, plain_words, why_refused
from pipeline.params import LanguageModel
from pipeline.reporting.calculator import calculator
from pipeline.reporting.chapter import Chapter, Fact
from pipeline.reporting.numbers import (
    DASH,
    THIN,
    count,
    factor,
    known,
    percent,
    probability,
    significant,
)

SYMBOLS = {"E": "E", "A": "A", "alpha": "α", "B": "B", "beta": "β", "q": "q"}
WIDER = 1.25
"""Intervals by trees that many times as wide as those by cells are spoken of in the abstract."""


def describe(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, settings: LanguageModel) -> Chapter:
    """The language-model chapter of the report."""
    chosen = summary.get("chosen")
    law = law_of(summary, chosen)
    sentences = [_ground(summary, tables["points"])]
    if law is None:
        sentences.append(_no_law(summary))
    else:
        sentences += [_law_sentence(summary, chosen), _holdout_sentence(summary, chosen)]
    sentences += [_validity(summary), forecast_sentence(summary, tables)]
    return Chapter(
        name="language_model",
        title="Language-model scaling",
        in_short=in_short(summary, tables),
        abstract=tuple(sentence for sentence in sentences if sentence),
        facts=_facts(summary, chosen, tables),
        mathml=FORMULAS[chosen] if law is not None else "",
        tables=law_tables(summary, tables),
        checks=check_tables(summary, tables),
        runs=(),
        methods=methods(settings, summary["estimator"], len(tables["points"])),
        counted=CONVENTIONS[summary["convention"]][1],
        explorer=explorer(summary, tables, runs),
        calculator=calculator(predictor) if (predictor := predictor_of(summary, tables)) else None,
    )


def _ground(summary: dict, points: pl.DataFrame) -> str:
    if points.is_empty():
        return "No run has a loss yet, so there is no law to report."
    sizes, tokens = points["N"].n_unique(), points["D"].n_unique()
    excluded = summary.get("num_excluded") or 0
    left_out = {0: "no run is excluded", 1: "one run is excluded"}.get(excluded, f"{excluded} runs are excluded")
    return (
        f"{len(points)} trained points over {_plural(sizes, 'size')} (N = {_span(points['N'])}, "
        f"{CONVENTIONS[summary['convention']][1]}) and {_plural(tokens, 'token count')} (D = {_span(points['D'])}), "
        f"{_times(points['C'])} in compute; {left_out}."
    )


def _no_law(summary: dict) -> str:
    chosen = summary.get("chosen")
    if ((summary.get("laws") or {}).get(chosen) or {}).get("status") == "gate_failed":
        return (
            f"The {LAW_NAMES[chosen]} fails its gate, so none of its exponents is shown: "
            f"{why_refused(summary, chosen)}. It stands here because of this: {plain_words(summary['chosen_because'])}"
        )
    states = {
        LAW_NAMES.get(name, name): str((law or {}).get("status")).replace("_", " ")
        for name, law in (summary.get("laws") or {}).items()
    }
    listed = ", ".join(f"{name}: {status}" for name, status in states.items()) or "none was fitted"
    return f"These runs do not identify a law ({listed}). More sizes and token counts, further apart, are needed."


def _law_sentence(summary: dict, chosen: str) -> str:
    fitted = summary["laws"][chosen]
    bounds = fitted.get("intervals") or {}
    stuck = fitted.get("at_bound") or ()
    parts = [
        f"{SYMBOLS[name]}\u00a0=\u00a0{in_words(value, bounds.get(name))}{' (at its bound)' if name in stuck else ''}"
        for name, value in ((name, fitted["params"].get(name)) for name in SYMBOLS)
        if value is not None
    ]
    text = (
        f"The {LAW_NAMES[chosen]} describes them with {', '.join(parts)} (N in parameters, D in tokens, L in "
        f"nats/token; estimator: {summary['estimator']}; 95 % intervals by resampling (N, D) cells). Its rms residual "
        f"is {percent(fitted.get('rms'))}"
    )
    lack = fitted.get("lack_of_fit")
    if lack and known(lack.get("p")):
        verdict = (
            "noise between seeds explains that" if lack["p"] > 0.05 else "noise between seeds does not explain that"
        )
        text += f"; {verdict} (lack-of-fit p {_equals(lack['p'])})"
    if known(summary.get("level_error")):
        text += (
            f". The level of the loss, and so E, has a further standard error of {percent(summary['level_error'])} "
            "from the choice of validation text, common to all runs"
        )
    widths = {name: ratio for name in fitted["params"] if known(ratio := width_ratio(fitted, name))}
    widest = max(widths, key=widths.get, default=None)
    if widest and widths[widest] > WIDER:
        text += (
            f". Runs of one trunk are not independent: resampling whole trees gives intervals up to "
            f"{factor(widths[widest])[:-1]} times as wide (that of {SYMBOLS[widest]})"
        )
    return text + "."


def _holdout_sentence(summary: dict, chosen: str) -> str:
    holdout = summary.get("holdout") or {}
    if not known(holdout.get("threshold_C")):
        return "There were too few budgets for a hold-out, so nothing here was tested beyond the runs it was fitted to."
    scores = holdout.get("laws") or {}
    text = (
        f"Fitted again without the {holdout['num_test']} points above {significant(holdout['threshold_C'], 3, 1.0)} "
        f"FLOPs, the {LAW_NAMES[chosen]} predicts them with an rms error of "
        f"{percent((scores.get(chosen) or {}).get('rms'))}"
    )
    others = [name for name in scores if name != chosen and known((scores[name] or {}).get("rms"))]
    text += "".join(f", the {LAW_NAMES[name]} with {percent(scores[name]['rms'])}" for name in others) + "."
    because = summary.get("chosen_because")
    text += f" {plain_words(because)}" if because else ""
    for name, law in summary["laws"].items():
        if name != chosen and law.get("status") == "gate_failed":
            text += f" The {LAW_NAMES[name]} fails its gate and shows no exponents: {why_refused(summary, name)}."
    return text


def _validity(summary: dict) -> str:
    valid = summary.get("valid_from")
    if not valid or not known(valid.get("N_min")):
        return "No scale was found from which on a law agrees with the runs to within the noise."
    name = LAW_NAMES.get(valid.get("law"), "law")
    return (
        f"Refitted to the runs from N = {count(valid['N_min'])} and D = {count(valid['D_min'])} on, the {name} holds "
        f"to within the noise between seeds ({valid['num_points']} points, lack-of-fit p "
        f"{_equals(valid.get('lack_of_fit_p'))}). {plain_words(valid['rule'])}"
    )


def _facts(summary: dict, chosen: str | None, tables: dict[str, pl.DataFrame]) -> tuple[Fact, ...]:
    fitted = (summary.get("laws") or {}).get(chosen) or {}
    score = ((summary.get("holdout") or {}).get("laws") or {}).get(chosen) or {}
    slopes = summary.get("frontier") or {}
    ratio = slopes.get("tokens_per_parameter_at_largest_C")
    facts = (
        Fact("rms residual", percent(fitted.get("rms")), "of ln L, all points"),
        Fact("held-out error", percent(score.get("rms")), "rms, largest budgets"),
        as_fact("exponent a of N* ∝ Cᵃ", slopes.get("a"), slopes.get("a_interval"), _resampled(slopes)),
        as_fact("tokens per parameter", ratio, slopes.get("interval"), "at the largest budget"),
        forecast_fact(summary, tables),
    )
    return tuple(fact for fact in facts if fact.text != DASH)


def _resampled(slopes: dict) -> str:
    """What was drawn again for the intervals of the frontier."""
    return "by resampled trees" if slopes.get("by_trees") else "by resampled cells"


def _equals(p: float | None) -> str:
    text = probability(p)
    return text if text[0] in "<>" else f"= {text}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _span(values: pl.Series) -> str:
    low, high = values.min(), values.max()
    return count(low) if low == high else f"{count(low)} to {count(high)}, {_times(values)}"


def _times(values: pl.Series) -> str:
    return f"{factor(values.max() / values.min())[:-1]}{THIN}×"
