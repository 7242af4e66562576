"""Figures of compute: both hold-outs, the frontier."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.experiments.language_model.scene import COMPUTE, LAW_NAMES, MOST_MARKS, Scene, usable_rows
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    count_axis,
    legend_above,
    loss_axis,
    new_canvas,
    power_axis,
    svg_text,
)

_LAW_COLOURS = {"q_form": BLUE, "chinchilla": ORANGE}


def predicted_against_measured(scene: Scene) -> Figure | None:
    """Predicted against measured loss of the held-out runs, for both laws."""
    laws = [name for name in LAW_NAMES if not usable_rows(scene.tables, "holdout", [f"predicted_{name}"]).is_empty()]
    if not laws:
        return None
    canvas, (axes,) = new_canvas()
    seen: list[float] = []
    reach: list[float] = []
    for name in laws:
        rows = usable_rows(scene.tables, "holdout", ["loss", f"predicted_{name}"]).sort("loss")
        every = -(-len(rows) * len(laws) // MOST_MARKS)
        rows = rows.gather_every(every)
        predicted = rows[f"predicted_{name}"]
        bounded = usable_rows({"holdout": rows}, "holdout", [f"low_{name}", f"high_{name}"])
        axes.vlines(
            bounded["loss"] if len(bounded) else [],
            bounded[f"low_{name}"] if len(bounded) else [],
            bounded[f"high_{name}"] if len(bounded) else [],
            color=_LAW_COLOURS[name],
            lw=1.0,
            alpha=0.6,
        )
        axes.scatter(
            rows["loss"],
            predicted,
            s=24,
            lw=0,
            color=_LAW_COLOURS[name],
            zorder=3,
            label=LAW_NAMES[name],
            marker="o" if name == "q_form" else "D",
        )
        seen += [*rows["loss"], *predicted]
        reach += [*bounded[f"low_{name}"], *bounded[f"high_{name}"]] if len(bounded) else []
    ends = [min(seen) * 0.985, max(seen) * 1.015]
    axes.plot(ends, ends, color=INK, lw=0.8, label="predicted = measured")
    loss_axis(axes.xaxis, seen, "measured loss (nats/token)")
    loss_axis(axes.yaxis, [*seen, *reach], "predicted loss (nats/token)")
    legend_above(canvas, axes)
    caption = (
        "The runs of the largest budgets, predicted by laws fitted without them, with 95 % intervals. A law that "
        "extrapolates stays on the diagonal."
    )
    caption += f" Marked: one run in {every}; the table has all." if every > 1 else ""
    return _figure(
        canvas,
        "predicted_against_measured",
        "Predicted against measured on the hold-out",
        caption,
        scene.tables["holdout"],
        check=True,
    )


def rolling(scene: Scene) -> Figure | None:
    """Predicted against measured loss beyond each origin of the rolling hold-out, with how many intervals held."""
    rows = usable_rows(scene.tables, "rolling", ["threshold_C", "until_C", "rms", "bias", "coverage", "num_test"])
    laws = [name for name in LAW_NAMES if not rows.is_empty() and name in rows["law"].to_list()]
    if not laws:
        return None
    canvas, panels = new_canvas(rows=len(laws), height=1.0 + 1.6 * len(laws))
    for axes, name in zip(panels, laws, strict=True):
        axes.axhline(0.0, color=INK, lw=0.7)
        for row in rows.filter(pl.col("law") == name).iter_rows(named=True):
            low, high = row["threshold_C"], row["until_C"]
            middle, spread = -100 * row["bias"], 100 * row["rms"]
            axes.fill_between([low, high], middle - spread, middle + spread, color=_LAW_COLOURS[name], alpha=0.16, lw=0)
            axes.plot([low, high], [middle, middle], color=_LAW_COLOURS[name], lw=1.8)
            axes.annotate(
                f"{round(row['coverage'] * row['num_test'])} of {row['num_test']:.0f}",
                (np.sqrt(low * high), 0.97),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="top",
                fontsize=9,
            )
        chosen = ", chosen" if name == scene.summary.get("chosen") else ""
        axes.set_title(f"{LAW_NAMES[name]}{chosen}", fontsize=10, loc="left")
        axes.set_ylabel("ln(law / measured), %")
        power_axis(axes.xaxis, [*rows["threshold_C"], *rows["until_C"]], COMPUTE if axes is panels[-1] else "")
    reach = max(max(abs(end) for end in axes.get_ylim()) for axes in panels)
    for axes in panels:
        axes.set_ylim(-reach, 1.25 * reach)
    caption = (
        "Each law fitted to the runs left of a segment and asked for the runs under it: mean error, and its rms as a "
        "band. A law that extrapolates stays at zero, and nearly all measured losses lie inside their 95 % intervals "
        "(counted above each segment)."
    )
    return _figure(canvas, "rolling_origin", "Rolling hold-out", caption, scene.tables["rolling"], check=True)


def frontier(scene: Scene) -> Figure | None:
    """Compute-optimal N*(C) of the law, with the isoFLOP minima, which do not use the law."""
    rows = scene.frontier
    if rows.is_empty():
        return None
    canvas, (axes,) = new_canvas()
    seen: list[float] = []
    for quantity, colour, label in (("N", BLUE, "N*, parameters"), ("D", GREEN, "D*, tokens")):
        band = usable_rows({"frontier": rows}, "frontier", [f"{quantity}_low", f"{quantity}_high"])
        if not band.is_empty():
            axes.fill_between(
                band["C"], band[f"{quantity}_low"], band[f"{quantity}_high"], color=colour, alpha=0.16, lw=0
            )
        axes.plot(rows["C"], rows[f"{quantity}_star"], color=colour, label=label)
        seen += [*rows[f"{quantity}_star"], *(band[f"{quantity}_low"] if len(band) else [])]
    minima = usable_rows(scene.tables, "isoflop", ["C", "N_star"])
    if not minima.is_empty():
        minima = minima.unique("C", maintain_order=True).sort("C")
        axes.scatter(
            minima["C"],
            minima["N_star"],
            marker="*",
            s=55,
            color=ORANGE,
            edgecolor=INK,
            lw=0.5,
            zorder=4,
            label="N at the isoFLOP minima",
        )
    _mark_end(axes, scene)
    power_axis(axes.xaxis, rows["C"].to_list(), "compute budget C = 6ND (FLOPs)")
    count_axis(axes.yaxis, seen, "parameters or tokens")
    legend_above(canvas, axes)
    caption = (
        "How to split a budget: the N* and D* of least loss, with 95 % intervals from resampled runs. Stars come from "
        "the isoFLOP slices alone and agree only if both are right."
    )
    return _figure(canvas, "frontier", "Compute-optimal size and tokens", caption, rows)


def tokens_per_parameter(scene: Scene) -> Figure | None:
    """Compute-optimal D*/N* against C."""
    rows = scene.frontier
    if rows.is_empty():
        return None
    ends = {name: pl.col(name).cast(pl.Float64) for name in ("N_low", "N_high", "D_low", "D_high")}
    rows = rows.select(
        "C",
        "N_star",
        "D_star",
        tokens_per_parameter=pl.col("D_star") / pl.col("N_star"),
        low=ends["D_low"] / ends["N_high"],
        high=ends["D_high"] / ends["N_low"],
    )
    canvas, (axes,) = new_canvas(height=3.4)
    axes.plot(rows["C"], rows["tokens_per_parameter"], color=BLUE)
    seen = rows["tokens_per_parameter"].to_list()
    band = usable_rows({"frontier": rows}, "frontier", ["low", "high"])
    if not band.is_empty():
        axes.fill_between(band["C"], band["low"], band["high"], color=BLUE, alpha=0.16, lw=0)
        seen += [*band["low"], *band["high"]]
    _mark_end(axes, scene)
    power_axis(axes.xaxis, rows["C"].to_list(), "compute budget C = 6ND (FLOPs)")
    count_axis(axes.yaxis, seen, "tokens per parameter D*/N*")
    caption = (
        "Tokens per parameter on the frontier. On a given C the size leaves D = C / (6N) tokens, so the band, from the "
        "largest N with the fewest tokens to the smallest with the most, is the 95 % interval. "
        "About 20 was found for large models on web text (arXiv 2203.15556); it depends on text, recipe and N."
    )
    return _figure(canvas, "tokens_per_parameter", "Tokens per parameter", caption, rows)


def _mark_end(axes, scene: Scene) -> None:
    """A dotted line at the largest compute that was trained."""
    end = scene.points["C"].max()
    axes.axvline(end, color=INK, lw=0.7, ls=":")
    axes.annotate(
        "largest run",
        (end, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=9,
    )


def _figure(canvas, name: str, title: str, caption: str, table: pl.DataFrame, check: bool = False) -> Figure:
    return Figure(name, title, caption, svg_text(canvas, name, f"{title}. {caption}"), table, check)
