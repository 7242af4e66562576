"""What the figures and the words of the language-model study share: the points, the law, the colours."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from pipeline.fitting.laws import LAWS, Law
from pipeline.fitting.points import spread_levels
from pipeline.reporting.figures import shades
from pipeline.reporting.numbers import known

LOSS = "validation loss L (nats/token)"
SIZE = "parameters N"
TOKENS = "training tokens D"
COMPUTE = "training compute C = 6ND (FLOPs)"
LAW_NAMES = {"chinchilla": "Chinchilla law", "q_form": "q-form"}
"""The two laws that a study chooses between."""
ALL_LAWS = LAW_NAMES | {
    "tied": "one exponent for both",
    "no_E": "no irreducible loss",
    "kaplan": "Kaplan's form",
    "interaction": "with a term in N and D",
}
"""Those, and the laws that stand beside them."""
CONVENTIONS = {
    "total": ("N_total", "all parameters"),
    "non_embedding": ("N_non_embedding", "non-embedding parameters"),
    "with_head": ("N_with_head", "non-embedding parameters and the head"),
}


MOST_MARKS, MOST_LEVELS = 600, 24
"""Points that a figure marks; of more it says which, and marks those of so many sizes or token counts."""


@dataclass(frozen=True)
class Scene:
    """A judged study, ready to draw; `law` is the chosen law in raw units, None if not identified."""

    summary: dict
    tables: dict[str, pl.DataFrame]
    runs: pl.DataFrame
    curves: pl.DataFrame
    points: pl.DataFrame
    frontier: pl.DataFrame
    law: Law | None
    law_label: str
    predictions: list[str]
    size_colours: dict[float, str]
    valid_from: dict[str, float]


def make_scene(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> Scene:
    """The scene of a judgement; `runs` gain N by the summary's convention."""
    column = CONVENTIONS[summary["convention"]][0]
    runs = runs.with_columns(pl.col(column).alias("N"))
    points = tables["points"].drop_nulls("loss")
    chosen = summary.get("chosen")
    valid = summary.get("valid_from") or {}
    return Scene(
        summary=summary,
        tables=tables,
        runs=runs,
        curves=curves,
        points=points,
        frontier=usable_rows(tables, "frontier", ["C", "N_star", "D_star", "loss"]),
        law=law_of(summary, chosen),
        law_label=LAW_NAMES.get(chosen, "law"),
        predictions=[name for name in points.columns if name.startswith("predicted_")],
        size_colours=shades([*points["N"], *runs["N"]]),
        valid_from={letter: valid[f"{letter}_min"] for letter in "ND" if known(valid.get(f"{letter}_min"))},
    )


def marked(points: pl.DataFrame, by: str) -> tuple[pl.DataFrame, str]:
    """(the points that a figure marks, a sentence that says which, "" where it marks all of them).

    Of more than MOST_MARKS points, those of MOST_LEVELS values of the column `by`, and at most MOST_MARKS of them, each
    spread evenly.
    """
    if len(points) <= MOST_MARKS:
        return points, ""
    levels = spread_levels(points[by].to_numpy(), MOST_LEVELS)
    kept = points.filter(pl.col(by).is_in(levels)).sort("N", "D", maintain_order=True)
    every = -(-len(kept) // MOST_MARKS)
    which = f"one point in {every}" if every > 1 else "all points"
    of = {"N": "sizes", "D": "token counts"}[by]
    said = f" Marked: {which} of {len(levels)} of {points[by].n_unique()} {of}; the table has all."
    return kept.gather_every(every), said


def plain_words(text: str) -> str:
    """A sentence of the judgement as people read it, its full stop at the end."""
    text = text.replace("q_form law", "q-form").replace("q_form", "q-form").replace(">=", "≥")
    return re.sub(r"\bchinchilla( law)?\b", "Chinchilla law", text).rstrip(". ") + "."


def why_refused(summary: dict, name: str | None) -> str | None:
    """Why a law may show no parameters, in words; None where it may show them."""
    fitted = (summary.get("laws") or {}).get(name) or {}
    if law_of(summary, name) is not None:
        return None
    reason = fitted.get("reason") or "these runs leave no interval for its parameters"
    return plain_words(reason).rstrip(".")


def usable_rows(tables: dict[str, pl.DataFrame], name: str, columns: list[str]) -> pl.DataFrame:
    """Rows of a table in which all `columns` are finite numbers; an empty frame where there is no such table."""
    table = tables.get(name)
    if table is None or not set(columns) <= set(table.columns):
        return pl.DataFrame()
    return table.with_columns(pl.col(columns).cast(pl.Float64)).filter(
        pl.all_horizontal(pl.col(columns).is_finite().fill_null(False))
    )


def law_of(summary: dict, name: str | None) -> Law | None:
    """The fitted law of that name in raw units (N parameters, D tokens), None if it was not identified."""
    fitted = (summary.get("laws") or {}).get(name) or {}
    form = LAWS.get(name)
    params = fitted.get("params") or {}
    if form is None or not all(known(params.get(parameter)) for parameter in form.parameters()):
        return None
    return form(**{parameter: params[parameter] for parameter in form.parameters()})
