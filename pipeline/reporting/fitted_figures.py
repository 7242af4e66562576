"""Figures of a fitted table of runs: its losses with the law's frontier, residuals, or isoFLOP curves and minima."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from pipeline.fitting.frontier import compute_grid
from pipeline.fitting.laws import LAWS
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import (
    INK,
    legend_above,
    loss_axis,
    new_canvas,
    power_axis,
    shades,
    styled,
    svg_text,
)
from pipeline.reporting.numbers import count
from pipeline.reporting.panel import panel

MOST_MARKS = 600
MOST_CURVES = 12
"""Budgets whose curves are drawn; of more, evenly spaced ones are."""
BINS = 8
"""Colours of N, or of whatever else there is."""
COMPUTE, LOSS = "training compute C (FLOPs)", "loss L (nats/token)"


def figures_of(prefix: str, result: dict[str, Any], points: pl.DataFrame) -> list[Figure]:
    """The figures of a fit; names begin with `prefix`."""
    if result["minima"] is not None:
        return _isoflop(prefix, result, points)
    figures = [_losses(prefix, result, points)]
    if result["answered"]:
        title, said = "Residuals against compute", "ln(measured / law). What is not noise shows as a pattern."
        shown, which = _marked(points)
        figures.append(
            panel(
                f"{prefix}_residuals",
                title,
                said + which,
                shown,
                "C",
                "residual",
                joined=False,
                logs="x",
                x_label=COMPUTE,
                y_label="residual of ln L",
                horizontal={"the law": 0.0},
            )
        )
    return figures


def _losses(prefix: str, result: dict[str, Any], points: pl.DataFrame) -> Figure:
    """Loss against C, coloured by N, with the least loss that the law gives for a budget."""
    shown, which = _marked(points)
    name, title = f"{prefix}_loss", "Loss against compute"
    caption = "One mark a run."
    with styled():
        canvas, (axes,) = new_canvas()
        by = "N" if "N" in shown.columns else "C"
        level = _levels(shown[by].to_numpy())
        colours = shades(level)
        for value in sorted(set(level)):
            rows = shown.filter(pl.Series(level == value))
            label = f"{by} about {count(value)}"
            axes.scatter(rows["C"], rows["L"], s=18, marker="D", lw=0, color=colours[value], label=label, zorder=3)
        best = _frontier(result, points)
        if best is not None:
            axes.plot(best["C"], best["L"], color=INK, lw=1.4, ls=(0, (5, 2)), label="least loss", zorder=4)
            caption += " Dashed: the least loss that the law gives for a budget."
        power_axis(axes.xaxis, points["C"].to_list(), COMPUTE)
        loss_axis(axes.yaxis, points["L"].to_list(), LOSS)
        legend_above(canvas, axes)
        return Figure(name, title, caption + which, svg_text(canvas, name, f"{title}. {caption}"), shown)


def _frontier(result: dict[str, Any], points: pl.DataFrame) -> pl.DataFrame | None:
    """C and the least loss on it, None for a law that has no optimum or needs further columns."""
    form = LAWS[result["law"]]
    if not result["answered"] or form.columns or result["frontier"] is None:
        return None
    law, C = form(**result["params"]), compute_grid(points["C"].to_numpy(), beyond=1.5)
    N = law.optimal_size(C)
    return pl.DataFrame({"C": C, "L": law.loss(N, C / (FLOPS_PER_PARAMETER_TOKEN * N))}).drop_nans()


def _isoflop(prefix: str, result: dict[str, Any], points: pl.DataFrame) -> list[Figure]:
    budgets = np.unique(points["C"].to_numpy())
    kept = budgets[np.linspace(0, len(budgets) - 1, min(len(budgets), MOST_CURVES)).round().astype(int)]
    shown = points.filter(pl.col("C").is_in(kept.tolist())).sort("C", "N")
    names = pl.Enum(list(dict.fromkeys(f"{C:.3g}" for C in kept)))
    shown = shown.with_columns(pl.Series("budget", [f"{C:.3g}" for C in shown["C"]], names))
    which = "" if len(kept) == len(budgets) else f" {len(kept)} of {len(budgets)} budgets are drawn."
    curves = panel(
        f"{prefix}_loss",
        "Loss against size on each budget",
        f"One line a budget C.{which}",
        shown,
        "N",
        "L",
        by="budget",
        by_label="C, FLOPs",
        x_label="parameters N",
        y_label=LOSS,
    )
    minima = pl.DataFrame(result["minima"], infer_schema_length=None).drop_nulls("params")
    if minima.is_empty():
        return [curves]
    theory, said = None, "The size of least loss on each budget."
    if result["answered"]:
        log_C, log_N = minima["C"].log(), minima["params"].log()
        line = log_N.mean() + result["frontier"]["a"] * (log_C - log_C.mean())
        minima, theory = minima.with_columns(fitted=line.exp()), "fitted"
        said += f" Line: C to the power {result['frontier']['a']:.4f}."
    labels = {"x_label": COMPUTE, "y_label": "N*, parameters"}
    optimum = panel(
        f"{prefix}_optimum", "Compute-optimal size", said, minima, "C", "params", theory=theory, joined=False, **labels
    )
    return [curves, optimum]


def _marked(points: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """(the runs that a figure marks, in order of C, and words that say which)."""
    ordered, every = points.sort("C", maintain_order=True), -(-len(points) // MOST_MARKS)
    return ordered.gather_every(every), f" Marked: one run in {every}." if every > 1 else ""


def _levels(values: np.ndarray) -> np.ndarray:
    """Each value's colour level: itself where there are few, else the geometric middle of its part of the range."""
    distinct = np.unique(values)
    if len(distinct) <= BINS:
        return values
    edges = np.geomspace(distinct[0], distinct[-1], BINS + 1)
    middles = np.sqrt(edges[1:] * edges[:-1])
    return middles[np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)]
