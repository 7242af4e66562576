"""The two tables of the law, and the figure that is drawn from them: one panel a dial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.experiments.laws.recipe_optimum.swept import Swept
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import INK, MUTED, legend_above, new_canvas, plain_log_axis, styled, svg_text
from pipeline.reporting.panel import COLOURS

NAME, TITLE = "recipe_optimum_dials", "Every dial of the recipe, moved alone"
POINTS = {"dial": pl.String, "width": pl.Int64, "factor": pl.Float64, "value": pl.Float64, "loss": pl.Float64,
          "relative": pl.Float64, "relative_se": pl.Float64, "fitted": pl.Float64}  # fmt: skip
OPTIMA = {"dial": pl.String, "width": pl.Int64, "study": pl.Float64, "bracketed": pl.Boolean, "optimum": pl.Float64,
          "optimum_low": pl.Float64, "optimum_high": pl.Float64, "regret": pl.Float64, "regret_low": pl.Float64,
          "regret_high": pl.Float64, "tolerance": pl.Float64, "verdict": pl.String}  # fmt: skip
ROOM = 1.2
"""Factor by which the axis goes beyond the values that were tried."""
MOST = 0.06
"""Largest loss over that of the study, less one, that a panel shows."""


def points(swept: Sequence[Swept]) -> pl.DataFrame:
    """A row a dial, width and factor: the mean loss (nats/token, geometric over seeds), its ratio to that of the study
    less one, the standard error of that from differences within seeds, and the parabola's where it was fitted."""
    rows = []
    for one in (one for one in swept if one.sweep):
        sweep = one.sweep
        own, level = sweep.means[sweep.x == 0].item(), sweep.coefficients[0]
        for x, mean, fitted in zip(sweep.x, sweep.means, sweep.fitted, strict=True):
            rows.append({
                "dial": one.dial.quantity, "width": one.width, "factor": float(np.exp(x)),
                "value": float(one.study * np.exp(x)), "loss": float(np.exp(mean)),
                "relative": float(np.expm1(mean - own)),
                "relative_se": float(np.sqrt(2 * sweep.variance / len(sweep.losses))) if x else 0.0,
                "fitted": float(np.expm1(level + sweep.height(x) - own)) if fitted else None,
            })  # fmt: skip
    return pl.DataFrame(rows, schema=POINTS)


def optima(swept: Sequence[Swept]) -> pl.DataFrame:
    """A row a dial and width: the study's value, the best one with its 95 % interval, and the study's regret in parts
    of the loss; no best value where the sweep holds none."""
    rows = []
    for one in swept:
        row = {"dial": one.dial.quantity, "width": one.width, "study": one.study, "verdict": one.verdict,
               "tolerance": one.tolerance, "bracketed": bool(one.sweep and one.sweep.bracketed)}  # fmt: skip
        if row["bracketed"]:
            row |= dict(zip(("optimum", "optimum_low", "optimum_high"), one.optimum, strict=True))
        if one.sweep:
            row |= dict(zip(("regret", "regret_low", "regret_high"), one.regret, strict=True))
        rows.append(row)
    return pl.DataFrame(rows, schema=OPTIMA)


def figure(points: pl.DataFrame, optima: pl.DataFrame) -> Figure:
    """The loss relative to the study's against the factor of each dial, with the best factors and their intervals."""
    dials = list(dict.fromkeys(optima["dial"]))
    with styled():
        canvas, panels = new_canvas(rows=len(dials), height=1.3 + 1.3 * len(dials))
        ends = (points["factor"].min() / ROOM, points["factor"].max() * ROOM) if len(points) else (1 / ROOM, ROOM)
        for axes, dial in zip(panels, dials, strict=True):
            rows = points.filter(dial=dial)
            for colour, width in zip(COLOURS, sorted(set(points["width"])), strict=False):
                part = rows.filter(width=width)
                axes.errorbar(part["factor"], 100 * part["relative"], yerr=196 * part["relative_se"], fmt="o", ms=3.6,
                              color=colour, elinewidth=0.9, label=f"width {width}")  # fmt: skip
                axes.plot(*_parabola(part), color=colour, lw=1.0, alpha=0.75)
                for best in optima.filter(pl.col("bracketed"), dial=dial, width=width).iter_rows(named=True):
                    _interval(axes, best, 0.16 if width == min(points["width"]) else 0.06, colour, ends)
            axes.axvline(1.0, color=INK, lw=0.8, ls=":")
            axes.axhline(0.0, color=MUTED, lw=0.6)
            plain_log_axis(axes.xaxis, points["factor"].to_list(), "")
            axes.set_xlim(*ends)
            low, high = (100 * value for value in (rows["relative"].min() or 0.0, rows["relative"].max() or 0.0))
            high = min(100 * MOST, max(2.0, high)) * 1.1
            axes.set_ylim(min(low, 0.0) - 0.45 * (high - min(low, 0.0)), high)
            axes.set_ylabel("loss, %")
            axes.set_title(dial, loc="left", fontsize=9.5)
        panels[-1].set_xlabel("times the value of the study")
        legend_above(canvas, panels[0])
        caption = (
            "Loss relative to the study's, each dial moved alone; bars of 1.96 standard errors within seeds, the "
            "fitted parabola, and below it the best value (tick) with its 95 % interval, an arrow where "
            "that goes on."
        )
        return Figure(NAME, TITLE, caption, svg_text(canvas, NAME, f"{TITLE}. {caption}"), points)


def _interval(axes, best: dict, height: float, colour: str, ends: tuple[float, float]) -> None:
    """The best factor with its interval as a line at `height` (axes fraction), with arrows where it leaves `ends`."""
    low, place, high = (best[name] / best["study"] for name in ("optimum_low", "optimum", "optimum_high"))
    drawn = {"color": colour, "transform": axes.get_xaxis_transform()}
    axes.plot([max(low, ends[0]), min(high, ends[1])], [height] * 2, lw=1.6, **drawn)
    axes.plot([place], [height], marker="|", ms=8, mew=1.6, **drawn)
    for end, marker, cut in ((ends[0], "<", low < ends[0]), (ends[1], ">", high > ends[1])):
        if cut:
            axes.plot([end], [height], marker=marker, ms=6, clip_on=False, **drawn)


def _parabola(part: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(factors, per cent) of the fitted parabola, through any three of its points."""
    part = part.drop_nulls("fitted")
    if len(part) < 3:
        return np.empty(0), np.empty(0)
    x = np.log(part["factor"].to_numpy())
    places = np.linspace(x[0], x[-1], 60)
    return np.exp(places), 100 * np.polyval(np.polyfit(x, part["fitted"].to_numpy(), 2), places)
