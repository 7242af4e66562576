"""The figures of this law, each from a table of its judgement."""

from __future__ import annotations

import polars as pl

from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

SOURCES = {"source_sgd": "SGD, in time", "source_kernel": "kernel regression, in samples",
           "source_features": "random features, in features"}  # fmt: skip


def figures(tables: dict[str, pl.DataFrame]) -> list[Figure]:
    """A figure for each table that has one, in the order of the findings."""
    drawn = {
        "engine": _engine,
        "exponents": _exponents,
        "edge": _edge,
        "source": _source,
        "peak": _peak,
        "projected": _projected,
        "smoothness": _smoothness,
    }
    sources = [tables[name].with_columns(model=pl.lit(words)) for name, words in SOURCES.items() if name in tables]
    known = tables | ({"source": pl.concat(sources)} if sources else {})
    return [draw(known[name]) for name, draw in drawn.items() if name in known]


def _engine(table: pl.DataFrame) -> Figure:
    caption = (
        "Compute exponent alpha_C that the fitting engine finds on gradient-flow surfaces, against the exact one "
        "(line). The table also holds residuals, errors on larger runs, and whether the engine refuses the form."
    )
    return panel("solvable_scaling_engine", "Compute exponent by two forms", caption, table, "truth", "alpha_C",
                 theory="truth", x_label="exact alpha_C = (b-1)/(1+a)", y_label="fitted alpha_C", by="form",
                 logs="")  # fmt: skip


def _exponents(table: pl.DataFrame) -> Figure:
    caption = "Every exponent of every model against theory (line). Projected features are short of their regime."
    return panel("solvable_scaling_exponents", "Exponents, measured against predicted", caption, table, "predicted",
                 "measured", error="error", theory="predicted", x_label="predicted exponent",
                 y_label="measured exponent", by="model")  # fmt: skip


def _edge(table: pl.DataFrame) -> Figure:
    caption = (
        "Loss at the end of a run over that at half time: above 1 the loss grows. Dashed: where it is predicted to."
    )
    return panel("solvable_scaling_edge", "Divergence of one-pass SGD", caption, table, "rate", "growth",
                 x_label="step eta tr H", y_label="loss at the end / at half time",
                 vertical={"predicted": table["edge"][0]}, horizontal={"no growth": 1.0}, logs="y")  # fmt: skip


def _source(table: pl.DataFrame) -> Figure:
    caption = "Exponents against the source b: they follow it (lines) until another term takes over."
    return panel("solvable_scaling_source", "Where exponents saturate", caption, table, "b", "exponent",
                 theory="predicted", x_label="source b", y_label="exponent", by="model", logs="")  # fmt: skip


def _peak(table: pl.DataFrame) -> Figure:
    caption = "Error of sampled random-feature regressions (dots, with 1.96 standard errors) and of the formula (line)."
    return panel("solvable_scaling_peak", "Features against samples", caption, table, "ratio", "sampled",
                 error="sampled_se", theory="expected", x_label="features / samples, P / n", y_label="error",
                 vertical={"P = n": 1.0})  # fmt: skip


def _projected(table: pl.DataFrame) -> Figure:
    caption = "Least expected loss on C = d t for one point in each phase; its slope still changes along the curve."
    return panel("solvable_scaling_projected", "Frontier of projected features", caption, table, "C", "loss",
                 x_label="compute d t", y_label="least loss", by="phase", joined=False)  # fmt: skip


def _smoothness(table: pl.DataFrame) -> Figure:
    caption = "Exponent of kernel regression on a line against the smoothness of the teacher; line: min(2 nu, 4)."
    return panel("solvable_scaling_smoothness", "A teacher too smooth", caption, table, "nu", "exponent",
                 theory="predicted", x_label="smoothness nu of the teacher", y_label="exponent", logs="")  # fmt: skip
