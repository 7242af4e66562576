"""Figures of the language-model study, each with the table it was drawn from.

The scene holds what all figures share; checks of the fit are in draw_checks, draw_isoflop, draw_residuals
and draw_fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pipeline.experiments.language_model import draw_checks, draw_fit, draw_isoflop, draw_residuals
from pipeline.experiments.language_model.scene import COMPUTE, LOSS, SIZE, TOKENS, Scene, make_scene, marked
from pipeline.fitting.points import spread_levels
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import (
    INK,
    count_axis,
    legend_above,
    loss_axis,
    new_canvas,
    power_axis,
    shades,
    styled,
    svg_text,
)
from pipeline.reporting.numbers import count

MAX_BINS = 120
MAX_CURVE_POINTS = 6000
MAX_CURVES = 400


def draw(
    judgement_summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame
) -> list[Figure]:
    """The study's figures in the order of the page, the first one the headline; a figure without data is left out."""
    scene = make_scene(judgement_summary, tables, runs, curves)
    if scene.points.is_empty():
        return []
    painters: list[Callable[[Scene], Figure | None]] = [
        loss_against_compute,
        training_curves,
        loss_against_size,
        loss_against_tokens,
        draw_checks.frontier,
        draw_checks.tokens_per_parameter,
        draw_residuals.residuals_against_size,
        draw_residuals.residuals_against_tokens,
        draw_residuals.residuals_against_compute,
        draw_checks.predicted_against_measured,
        draw_checks.rolling,
        draw_residuals.influence,
        draw_fit.objective_map,
        draw_fit.profile_of_E,
        draw_fit.approaches,
        draw_isoflop.isoflop,
    ]
    with styled():
        drawn = [paint(scene) for paint in painters]
    return [figure for figure in drawn if figure is not None]


def loss_against_compute(scene: Scene) -> Figure:
    """Loss of every run against its training FLOPs, a line a size, with the compute-optimal frontier of the law."""
    canvas, (axes,) = new_canvas(height=4.1)
    points, frontier = scene.points, scene.frontier
    in_view = frontier.filter(pl.col("C") <= 10 * points["C"].max()) if not frontier.is_empty() else frontier
    shown, left_out = marked(points, "N")
    for N, rows in _groups(shown, "N"):
        if scene.law:
            tokens = np.geomspace(rows["D"].min(), rows["D"].max(), 60)
            a_token = float((rows["C"] / rows["D"]).mean())
            axes.plot(a_token * tokens, scene.law.loss(N, tokens), color=scene.size_colours[N], lw=0.9)
        axes.scatter(rows["C"], rows["loss"], s=20, lw=0, color=scene.size_colours[N], zorder=3, label=count(N))
    if not in_view.is_empty():
        axes.fill_between(in_view["C"], in_view["loss_low"], in_view["loss_high"], color=INK, alpha=0.13, lw=0)
        axes.plot(in_view["C"], in_view["loss"], color=INK, lw=1.4, ls=(0, (5, 2)), label="frontier", zorder=4)
    threshold = (scene.summary.get("holdout") or {}).get("threshold_C")
    power_axis(
        axes.xaxis,
        [*points["C"], *(in_view["C"] if not in_view.is_empty() else [])],
        COMPUTE,
    )
    loss_axis(axes.yaxis, [*points["loss"], *(in_view["loss"] if not in_view.is_empty() else [])], LOSS)
    if threshold:
        axes.axvline(threshold, color=INK, lw=0.7, ls=":")
        axes.annotate(
            "held out →",
            (threshold, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=9,
            va="top",
        )
    legend_above(canvas, axes, "N, parameters")
    caption = "One dot a trained run, one colour a size."
    if scene.law:
        caption += f" Thin lines: the {scene.law_label} at that size."
    if not in_view.is_empty():
        caption += (
            " Dashed: the least loss that the law gives for a budget, with its 95 % interval, drawn to ten times the "
            "largest compute; beyond the dots it is extrapolation."
        )
    caption += left_out
    table = points.select("run_id", "width", "seed", "N", "D", "C", "loss")
    return _figure(canvas, "loss_against_compute", "Loss against compute", caption, table, "C")


def training_curves(scene: Scene) -> Figure | None:
    """Training loss of every size: its longest trunk, and each cooldown from the point where it leaves the trunk."""
    table = _thinned_curves(scene)
    if table.is_empty():
        return None
    canvas, (axes,) = new_canvas()
    for (_, N, kind), rows in table.group_by("run_id", "N", "kind", maintain_order=True):
        axes.plot(
            rows["tokens"],
            rows["train_loss"],
            color=scene.size_colours.get(N, INK),
            lw=0.8,
            alpha=1.0 if kind == "cooldown" else 0.75,
        )
    shown = scene.points.filter((pl.col("role") == "grid") & pl.col("N").is_in(table["N"].unique().to_list()))
    for N, rows in _groups(shown, "N"):
        axes.scatter(
            rows["D"],
            rows["loss"],
            s=15,
            color=scene.size_colours[N],
            edgecolor="white",
            lw=0.5,
            zorder=3,
            label=count(N),
        )
    count_axis(axes.xaxis, [*table["tokens"]], "tokens seen")
    loss_axis(axes.yaxis, [*table["train_loss"], *scene.points["loss"]], "training loss (nats/token)")
    legend_above(canvas, axes, "N, parameters")
    caption = (
        "Training loss, averaged over logarithmic steps in tokens, from a twentieth of the smallest D on. Each "
        "branch that falls away from its trunk is a cooldown; dots are the validation losses at its end, the points "
        "of the law."
    )
    num_sizes = scene.points["N"].n_unique()
    if shown["N"].n_unique() < num_sizes:
        caption += f" Drawn: {shown['N'].n_unique()} of {num_sizes} sizes."
    return _figure(canvas, "training_curves", "Training curves", caption, table)


def loss_against_size(scene: Scene) -> Figure:
    """Loss against N, a line a token count, with the law."""
    return _slices(scene, "N", "D", SIZE, count_axis, "D, tokens", shades(scene.points["D"], "plasma"))


def loss_against_tokens(scene: Scene) -> Figure:
    """Loss against D, a line a size, with the law."""
    return _slices(scene, "D", "N", TOKENS, count_axis, "N, parameters", scene.size_colours)


def _slices(scene: Scene, along: str, fixed: str, label: str, axis, legend: str, colours: dict) -> Figure:
    canvas, (axes,) = new_canvas()
    points = scene.points
    shown, left_out = marked(points, fixed)
    grid = np.geomspace(points[along].min(), points[along].max(), max(8, min(80, 2400 // shown[fixed].n_unique())))
    for value, rows in _groups(shown, fixed):
        axes.scatter(rows[along], rows["loss"], s=20, lw=0, color=colours[value], zorder=3, label=count(value))
        if scene.law:
            N, D = (grid, value) if along == "N" else (value, grid)
            axes.plot(grid, scene.law.loss(N, D), color=colours[value], lw=0.9)
    axis(axes.xaxis, points[along].to_list(), label)
    loss_axis(axes.yaxis, points["loss"].to_list(), LOSS)
    legend_above(canvas, axes, legend)
    name = {"N": "loss_against_size", "D": "loss_against_tokens"}[along]
    title = {"N": "Loss against parameters", "D": "Loss against tokens"}[along]
    caption = (
        f"Dots: measured. Lines: the {scene.law_label}." if scene.law else "Dots: measured; no law was identified."
    )
    table = points.select("run_id", "N", "D", "C", "loss", *scene.predictions)
    return _figure(canvas, name, title, caption + left_out, table, along)


def _thinned_curves(scene: Scene) -> pl.DataFrame:
    """The curves of the grid runs in logarithmic steps, cooldowns from where they leave their trunk.

    At most MAX_BINS steps, fewer where more than MAX_CURVE_POINTS would have to be drawn; of sizes with more than
    MAX_CURVES runs in all, as many as have no more.
    """
    runs = scene.runs.filter(pl.col("role") == "grid").select("run_id", "kind", "start_tokens", "N")
    if len(runs) > MAX_CURVES:
        num_sizes = max(2, MAX_CURVES * runs["N"].n_unique() // len(runs))
        runs = runs.filter(pl.col("N").is_in(spread_levels(runs["N"].to_numpy(), num_sizes)))
    curves = scene.curves.join(runs, on="run_id").filter(pl.col("tokens") > pl.col("start_tokens"))
    beginning = scene.points["D"].min() / 20
    curves = curves.filter(pl.col("train_loss").is_finite() & (pl.col("tokens") >= beginning))
    if curves.is_empty():
        return curves
    low, high = np.log(curves["tokens"].min()), np.log(curves["tokens"].max())
    step = max((high - low) / max(12, min(MAX_BINS, MAX_CURVE_POINTS // curves["run_id"].n_unique())), 1e-9)
    binned = curves.with_columns(step=_steps(pl.col("tokens").log(), step)).group_by("run_id", "N", "kind", "step")
    binned = binned.agg(pl.col("tokens").max(), pl.col("train_loss").mean())
    return binned.sort("N", "run_id", "tokens").drop("step")


def _steps(place: pl.Expr, width: float) -> pl.Expr:
    """The steps, about `width` wide, that each run's own range of `place` is divided into, all equally wide: a short
    rest at its end would be the noise of a single loss."""
    start, reach = place.min().over("run_id"), (place.max() - place.min()).over("run_id")
    num_steps = (reach / width).round().clip(1)
    return ((place - start) / reach.clip(1e-9) * num_steps).floor().clip(upper_bound=num_steps - 1)


def _groups(frame: pl.DataFrame, column: str) -> list[tuple[float, pl.DataFrame]]:
    return [(key[0], rows.sort("C")) for key, rows in frame.sort(column).group_by(column, maintain_order=True)]


def _figure(canvas, name: str, title: str, caption: str, table: pl.DataFrame, along=None) -> Figure:
    return Figure(name, title, caption, svg_text(canvas, name, f"{title}. {caption}"), table, along=along)
