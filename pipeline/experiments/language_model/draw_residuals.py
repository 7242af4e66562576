"""Figures of single runs: residuals against size, tokens and compute, and what each run does to the forecast."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipeline.experiments.language_model.outlook import forecast
from pipeline.experiments.language_model.scene import COMPUTE, LAW_NAMES, SIZE, TOKENS, Scene, marked, usable_rows
from pipeline.fitting.prediction import BUDGET_FACTOR
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import (
    INK,
    MUTED,
    count_axis,
    legend_above,
    new_canvas,
    power_axis,
    shades,
    svg_text,
)
from pipeline.reporting.numbers import count, percent, significant

MOST_NAMED = 14
"""Runs that the figure of influence names; the table has all."""


def residuals_against_size(scene: Scene) -> Figure | None:
    """Residuals of both laws against N, coloured by D."""
    return _residuals(scene, "N", "D", SIZE, count_axis, "D, tokens", shades(scene.points["D"], "plasma"))


def residuals_against_tokens(scene: Scene) -> Figure | None:
    """Residuals of both laws against D, coloured by N."""
    return _residuals(scene, "D", "N", TOKENS, count_axis, "N, parameters", scene.size_colours)


def residuals_against_compute(scene: Scene) -> Figure | None:
    """Residuals of both laws against C, coloured by N."""
    return _residuals(scene, "C", "N", COMPUTE, power_axis, "N, parameters", scene.size_colours)


_NAMES = {
    "N": ("residuals_against_size", "Residuals against parameters"),
    "D": ("residuals_against_tokens", "Residuals against tokens"),
    "C": ("residuals_against_compute", "Residuals against compute"),
}


def _residuals(
    scene: Scene, along: str, by: str, label: str, axis: Callable, legend: str, colours: dict
) -> Figure | None:
    identified = [
        name for name, law in (scene.summary.get("laws") or {}).items() if law.get("status") != "not_identified"
    ]
    laws = [
        name
        for name in LAW_NAMES
        if name in identified and not usable_rows(scene.tables, "points", [f"residual_{name}"]).is_empty()
    ]
    if not laws:
        return None
    canvas, panels = new_canvas(rows=len(laws), height=1.1 + 1.75 * len(laws))
    shown, left_out = marked(scene.points, by)
    noise = (scene.summary.get("seed_noise") or {}).get("sd")
    for axes, name in zip(panels, laws, strict=True):
        rows = usable_rows({"points": shown}, "points", [f"residual_{name}"]).sort(by)
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
        axis(axes.xaxis, rows[along].to_list(), label if axes is panels[-1] else "")
    floor = scene.valid_from.get(along)
    if floor and floor > scene.points[along].min():
        for axes in panels:
            axes.axvline(floor, color=INK, lw=0.7, ls=":")
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
    caption += left_out
    columns = ["run_id", "width", "seed", "N", "D", "C", *(f"residual_{law}" for law in laws)]
    return _figure(canvas, *_NAMES[along], caption, scene.points.select(columns))


def influence(scene: Scene) -> Figure | None:
    """The runs that move the forecast most when they are left out, and how far, coloured by size."""
    rows = usable_rows(scene.tables, "influence", ["N", "D", "change_of_forecast"])
    if rows.is_empty():
        return None
    largest = rows.sort(pl.col("change_of_forecast").abs(), "run_id", descending=[True, False]).head(MOST_NAMED)
    canvas, (axes,) = new_canvas(height=1.5 + 0.21 * len(largest))
    for place, row in enumerate(largest.iter_rows(named=True)):
        colour = scene.size_colours.get(row["N"], INK)
        change = 100 * row["change_of_forecast"]
        axes.plot([0.0, change], [place, place], color=colour, lw=1.1)
        axes.scatter([change], [place], s=26, lw=0, color=colour, zorder=3)
    for N in sorted(set(largest["N"])):
        axes.scatter([], [], s=26, lw=0, color=scene.size_colours.get(N, INK), label=count(N))
    axes.axvline(0.0, color=INK, lw=0.7)
    axes.set_yticks(
        range(len(largest)),
        [f"N {count(N)}, D {count(D)}, seed {seed}" for N, D, seed in largest.select("N", "D", "seed").iter_rows()],
    )
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    axes.set_ylim(len(largest) - 0.4, -0.6)
    axes.set_xlabel(f"change of ln L at {BUDGET_FACTOR:g} times the largest compute (%)")
    legend_above(canvas, axes, "N, parameters")
    caption = (
        f"The {len(largest)} runs whose absence moves the forecast most, and how far. No single run should carry it: "
        f"the largest move is {percent(abs(largest['change_of_forecast'][0]))}"
    )
    budget = forecast(scene.summary, scene.tables)
    if budget is not None:
        low, high = budget.best.interval
        caption += f", while the 95 % interval of the law there runs from −{percent(1 - low / budget.best.loss)} "
        caption += f"to +{percent(high / budget.best.loss - 1)}"
    return _figure(canvas, "influence", "Which runs carry the forecast", f"{caption}.", scene.tables["influence"])


def _figure(canvas, name: str, title: str, caption: str, table: pl.DataFrame) -> Figure:
    return Figure(name, title, caption, svg_text(canvas, name, f"{title}. {caption}"), table, check=True)
