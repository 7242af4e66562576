"""The abstract of the page: what was done, found and may be expected, in plain words and from the judgement alone."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.experiments.language_model.outlook import forecast, in_words
from pipeline.experiments.language_model.scene import CONVENTIONS, LAW_NAMES, law_of
from pipeline.fitting.laws import Law
from pipeline.fitting.prediction import BUDGET_FACTOR
from pipeline.reporting.numbers import count, known, percent, significant


def in_short(summary: dict, tables: dict[str, pl.DataFrame]) -> tuple[str, ...]:
    """Short paragraphs, the first on the runs; without a law the second says that there is none."""
    points = tables["points"]
    if points.is_empty():
        return ("No run of this study has a loss yet.",)
    law = law_of(summary, summary.get("chosen"))
    paragraphs = [_done(summary, points)]
    if law is None:
        return (*paragraphs, "They do not identify a scaling law, so nothing is said here about larger ones.")
    paragraphs += [_found(summary, law, points), _advice(summary, tables)]
    return tuple(paragraph for paragraph in paragraphs if paragraph)


def _done(summary: dict, points: pl.DataFrame) -> str:
    models = points.select("N", "D", "seed").n_unique()
    counted = CONVENTIONS[summary["convention"]][1].replace(" parameters", "")
    losses = points["loss"]
    return (
        f"{models} language models of {_range(points['N'])} parameters ({counted}) were "
        f"trained on {_range(points['D'])} tokens each, from {significant(points['C'].min(), 2, 1.0)} to "
        f"{significant(points['C'].max(), 2, 1.0)} FLOPs. On text that none of them saw, the loss falls from "
        f"{significant(losses.max())} to {significant(losses.min())} nats per token."
    )


def _found(summary: dict, law: Law, points: pl.DataFrame) -> str:
    largest = points.sort("C", "run_id").row(-1, named=True)
    N, D = largest["N"], largest["D"]
    here = float(law.loss(N, D))
    size, data = (1 - float(law.loss(*twice)) / here for twice in ((2 * N, D), (N, 2 * D)))
    fitted = summary["laws"][summary["chosen"]]
    text = (
        f"One formula, the {LAW_NAMES[summary['chosen']]}, gives all of these losses from size and data to within "
        f"{percent(fitted['rms'])} (rms). At the largest run, it says, twice the parameters would take "
        f"{percent(size)} off the loss and twice the tokens {percent(data)}; "
        f"{_floor(law, fitted)}."
    )
    held_out = ((summary.get("holdout") or {}).get("laws") or {}).get(summary["chosen"]) or {}
    if known(held_out.get("rms")):
        text += f" Fitted to the smaller runs alone, it missed the larger ones by {percent(held_out['rms'])}."
    return text


def _advice(summary: dict, tables: dict[str, pl.DataFrame]) -> str:
    budget, slopes = forecast(summary, tables), summary.get("frontier") or {}
    if budget is None:
        return ""
    text = f"{BUDGET_FACTOR:g} times the largest compute would be best spent on "
    if known(slopes.get("a")):
        sizes, tokens = (_shares(slopes[key], slopes.get(f"{key}_interval")) for key in "ab")
        text = (
            f"Each tenfold budget is best spent on {sizes} times the parameters and {tokens} times the tokens. "
            f"{BUDGET_FACTOR:g} times the largest compute would go to "
        )
    return (
        f"{text}{in_words(budget.best.N, budget.N_interval, count)} parameters and "
        f"{in_words(budget.best.D, budget.D_interval, count)} tokens, for a loss of "
        f"{in_words(budget.best.loss, budget.best.prediction_interval)}, if the law still holds there. Brackets hold "
        "95\u00a0% intervals."
    )


def _floor(law: Law, fitted: dict) -> str:
    if "E" in (fitted.get("at_bound") or ()):
        return "what would remain whatever the size and the data is not settled by these runs"
    remains = in_words(law.E, (fitted.get("intervals") or {}).get("E"))
    return f"{remains} nats per token would remain whatever the size and the data"


def _shares(exponent: float, ends: Sequence[float] | None) -> str:
    """What a tenfold budget multiplies by, with its interval."""
    grown = [f"{BUDGET_FACTOR**power:.1f}" for power in (exponent, *(ends or ()))]
    return f"{grown[0]} [{grown[1]}, {grown[2]}]" if ends else grown[0]


def _range(values: pl.Series) -> str:
    low, high = values.min(), values.max()
    return count(low) if low == high else f"{count(low)} to {count(high)}"
