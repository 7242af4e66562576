"""Figures that put the fit to the test: isoFLOP slices, residuals, hold-out, frontier."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.experiments.language_model.scene import LAW_NAMES, SIZE, TOKENS, Scene, usable_rows
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    count_axis,
    legend_above,
    loss_axis,
    new_canvas,
    power_axis,
    shades,
    svg_text,
)
from pipeline.reporting.numbers import count, significant

_LAW_COLOURS = {"q_form": BLUE, "chinchilla": ORANGE}


def isoflop(scene: Scene) -> Figure | None:
    """Loss against N at equal compute, with the minima that were found."""
    rows = (
        usable_rows(scene.tables, "isoflop", ["C", "N", "loss"]).sort("C", "N") if "isoflop" in scene.tables else None
    )
    if rows is None or rows.is_empty():
        return None
    canvas, (axes,) = new_canvas()
    colours = shades(rows["C"], "plasma")
    minima = usable_rows({"isoflop": rows}, "isoflop", ["N_star"])
    for (C,), slice_ in rows.group_by("C", maintain_order=True):
        axes.plot(
            slice_["N"],
            slice_["loss"],
            color=colours[C],
            marker="o",
            ms=3.6,
            lw=0.9,
            label=significant(C, 2, scientific_from=1),
        )
        star = minima.filter(pl.col("C") == C)
        if not star.is_empty():
            N_star = star["N_star"][0]
            loss = np.interp(np.log(N_star), np.log(slice_["N"].to_numpy()), slice_["loss"].to_numpy())
            axes.plot([N_star], [loss], marker="*", ms=10, color=colours[C], mec=INK, mew=0.6, zorder=4)
    count_axis(axes.xaxis, [*rows["N"], *(minima["N_star"] if not minima.is_empty() else [])], SIZE)
    loss_axis(axes.yaxis, rows["loss"].to_list(), "interpolated loss (nats/token)")
    legend_above(canvas, axes, "C (FLOPs)")
    caption = (
        "Loss at equal compute, interpolated in D between the runs of a size. A star marks the minimum of a budget; "
        "budgets without one are refused in the table, with the reason."
    )
    return _figure(canvas, "isoflop", "IsoFLOP slices", caption, rows)


def residuals_against_size(scene: Scene) -> Figure | None:
    """Residuals of both laws against N, coloured by D."""
    return _residuals(scene, "N", "D", SIZE, "D, tokens", shades(scene.points["D"], "plasma"))


def residuals_against_tokens(scene: Scene) -> Figure | None:
    """Residuals of both laws against D, coloured by N."""
    return _residuals(scene, "D", "N", TOKENS, "N, parameters", scene.size_colours)


def _residuals(scene: Scene, along: str, by: str, label: str, legend: str, colours: dict) -> Figure | None:
    laws = [name for name in LAW_NAMES if not usable_rows(scene.tables, "points", [f"residual_{name}"]).is_empty()]
    if not laws:
        return None
    canvas, panels = new_canvas(rows=len(laws), height=1.1 + 1.75 * len(laws))
    noise = (scene.summary.get("seed_noise") or {}).get("sd")
    for axes, name in zip(panels, laws, strict=True):
        rows = usable_rows(scene.tables, "points", [f"residual_{name}"]).sort(by)
        if noise:
            axes.axhspan(-200 * noise, 200 * noise, color=MUTED, alpha=0.13, lw=0)
        axes.axhline(0.0, color=INK, lw=0.7)
        for (value,), group in rows.group_by(by, maintain_order=True):
            axes.scatter(
                group[along], 100 * group[f"residual_{name}"], s=18, lw=0, color=colours[value], label=count(value)
            )
        chosen = ", chosen" if name == scene.summary.get("chosen") else ""
        axes.set_title(f"{LAW_NAMES[name]}{chosen}", fontsize=10, loc="left")
        axes.set_ylabel("residual (%)")
        count_axis(axes.xaxis, rows[along].to_list(), label if axes is panels[-1] else "")
    floor = scene.valid_from.get(along)
    for axes in panels:
        if floor and floor > scene.points[along].min():
            axes.axvline(floor, color=INK, lw=0.7, ls=":")
    if floor and floor > scene.points[along].min():
        panels[-1].annotate(
            "refitted from here on, the law holds →",
            (floor, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=9,
        )
    low, high = (f(axes.get_ylim()[i] for axes in panels) for i, f in ((0, min), (1, max)))
    for axes in panels:
        axes.set_ylim(low, high)
    legend_above(canvas, panels[0], legend)
    caption = f"ln(measured / law) of every point against {along}. What is not noise shows as a pattern."
    if noise:
        caption += f" Grey: twice the noise between seeds ({significant(100 * noise, 2)} %)."
    name = {"N": "residuals_against_size", "D": "residuals_against_tokens"}[along]
    title = {"N": "Residuals against parameters", "D": "Residuals against tokens"}[along]
    columns = [f"residual_{law}" for law in laws]
    return _figure(canvas, name, title, caption, scene.points.select("run_id", "width", "seed", "N", "D", *columns))


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
    return _figure(
        canvas,
        "predicted_against_measured",
        "Predicted against measured on the hold-out",
        caption,
        scene.tables["holdout"],
    )


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
    rows = rows.with_columns((pl.col("D_star") / pl.col("N_star")).alias("tokens_per_parameter"))
    canvas, (axes,) = new_canvas(height=3.4)
    axes.plot(rows["C"], rows["tokens_per_parameter"], color=BLUE)
    seen = rows["tokens_per_parameter"].to_list()
    band = usable_rows({"frontier": rows}, "frontier", ["N_low", "N_high", "D_low", "D_high"])
    if not band.is_empty():
        low, high = band["D_low"] / band["N_high"], band["D_high"] / band["N_low"]
        axes.fill_between(band["C"], low, high, color=BLUE, alpha=0.16, lw=0)
        seen += [*low, *high]
    _mark_end(axes, scene)
    power_axis(axes.xaxis, rows["C"].to_list(), "compute budget C = 6ND (FLOPs)")
    count_axis(axes.yaxis, seen, "tokens per parameter D*/N*")
    caption = (
        "Tokens per parameter on the frontier. The band joins the ends of both intervals, so it is wider than 95 %. "
        "About 20 was found for large models on web text (arXiv 2203.15556); it depends on text, recipe and N."
    )
    columns = ["C", "N_star", "D_star", "tokens_per_parameter"]
    return _figure(canvas, "tokens_per_parameter", "Tokens per parameter", caption, rows.select(columns))


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


def _figure(canvas, name: str, title: str, caption: str, table: pl.DataFrame) -> Figure:
    return Figure(name, title, caption, svg_text(canvas, name, f"{title}. {caption}"), table)
