"""What the figures and the words of the language-model study share: the points, the law, the colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.reporting.figures import shades
from pipeline.reporting.numbers import known

LOSS = "validation loss L (nats/token)"
SIZE = "parameters N"
TOKENS = "training tokens D"
LAW_NAMES = {"additive": "additive law", "q_form": "q-form"}
CONVENTIONS = {
    "total": ("N_total", "all parameters"),
    "non_embedding": ("N_non_embedding", "non-embedding parameters"),
    "with_head": ("N_with_head", "non-embedding parameters and the head"),
}


@dataclass(frozen=True)
class Scene:
    """A judged study, ready to draw; `law` holds the chosen law's parameters in raw units, None if not identified."""

    summary: dict
    tables: dict[str, pl.DataFrame]
    runs: pl.DataFrame
    curves: pl.DataFrame
    points: pl.DataFrame
    frontier: pl.DataFrame
    law: dict | None
    law_label: str
    predictions: list[str]
    size_colours: dict[float, str]


def make_scene(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> Scene:
    """The scene of a judgement; `runs` gain N by the summary's convention."""
    column = CONVENTIONS[summary["convention"]][0]
    runs = runs.with_columns(pl.col(column).alias("N"))
    points = tables["points"].drop_nulls("loss")
    chosen = summary.get("chosen")
    return Scene(
        summary=summary,
        tables=tables,
        runs=runs,
        curves=curves,
        points=points,
        frontier=usable_rows(tables, "frontier", ["C", "N_star", "D_star", "loss"]),
        law=law_parameters(summary, chosen),
        law_label=LAW_NAMES.get(chosen, "law"),
        predictions=[name for name in points.columns if name.startswith("predicted_")],
        size_colours=shades([*points["N"], *runs["N"]]),
    )


def usable_rows(tables: dict[str, pl.DataFrame], name: str, columns: list[str]) -> pl.DataFrame:
    """Rows of a table in which all `columns` are finite numbers; an empty frame where there is no such table."""
    table = tables.get(name)
    if table is None or not set(columns) <= set(table.columns):
        return pl.DataFrame()
    return table.with_columns(pl.col(columns).cast(pl.Float64)).filter(
        pl.all_horizontal(pl.col(columns).is_finite().fill_null(False))
    )


def law_parameters(summary: dict, name: str | None) -> dict | None:
    """E, A, alpha, B, beta (and q) of a law in raw units (N parameters, D tokens), None if any is unknown."""
    law = (summary.get("laws") or {}).get(name) or {}
    params = law.get("params") or {}
    if not {"E", "A", "alpha", "B", "beta"} <= params.keys() or not all(known(value) for value in params.values()):
        return None
    return params


def evaluate_law(law: dict, N, D) -> np.ndarray:
    """L = E + ((A/N^alpha)^q + (B/D^beta)^q)^(1/q) in nats/token; q = 1 is the law of arXiv 2203.15556."""
    q = law.get("q", 1.0)
    size = law["A"] / np.asarray(N, float) ** law["alpha"]
    data = law["B"] / np.asarray(D, float) ** law["beta"]
    return law["E"] + (size**q + data**q) ** (1 / q)
