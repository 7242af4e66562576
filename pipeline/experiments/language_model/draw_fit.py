"""Figures of what the fit leaves open: the map over the exponents, the profile of E, exponents by three approaches."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.experiments.language_model.fit_checks import COUNTS
from pipeline.experiments.language_model.scene import Scene, usable_rows
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import BLUE, GREEN, INK, MUTED, ORANGE, legend_above, new_canvas, svg_text
from pipeline.reporting.numbers import decimal, interval, known

STEPS = (0.0, 0.25, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0)
"""Levels of the map's shades, in multiples of the level of the 95 % region."""
SHADES = ("#6fa8cf", "#95c0de", "#b7d4e9", "#cfe2f1", "#e0ecf6", "#ecf3f9", "#f6f9fc")
_APPROACHES = {"envelope": (GREEN, "s"), "isoFLOP": (ORANGE, "D"), "parametric": (BLUE, "o")}


def objective_map(scene: Scene) -> Figure | None:
    """Contours of the least objective over the exponents, with the 95 % region and the minimum."""
    rows = usable_rows(scene.tables, "objective_map", ["alpha", "beta", "excess"])
    if rows.is_empty():
        return None
    alpha, beta, excess = _on_grid(rows)
    if min(excess.shape) < 3 or scene.law is None:
        return None
    level = _level(rows)
    scale = level or float(np.nanmedian(excess)) or 1.0
    canvas, (axes,) = new_canvas(height=4.1)
    shown = np.clip(excess, 0.0, STEPS[-1] * scale * 0.999).T
    axes.contourf(alpha, beta, shown, levels=[step * scale for step in STEPS], colors=SHADES)
    if level:
        axes.contour(alpha, beta, shown, levels=[level], colors=[INK], linewidths=1.4)
        axes.plot([], [], color=INK, lw=1.4, label="95 % region")
    axes.plot(scene.law.alpha, scene.law.beta, "*", ms=12, color=ORANGE, mec=INK, mew=0.6, label="minimum")
    axes.set_xlabel("exponent of size, α")
    axes.set_ylabel("exponent of data, β")
    axes.set_xlim(alpha[0], alpha[-1])
    axes.set_ylim(beta[0], beta[-1])
    legend_above(canvas, axes)
    inside = f"{100 * np.mean(excess < level):.0f} % of this window" if level else ""
    caption = (
        "How much worse the fit gets when both exponents are held and everything else is fitted again; the darker, the "
        "better. One closed valley round the minimum means that the runs pin the exponents down; its slant is what "
        "they trade against each other"
    )
    caption += f". The 95 % region fills {inside}." if inside else "; this estimator gives no region."
    if level and _touches(excess < level):
        caption += " It runs out of the window: the runs do not close it."
    return _figure(canvas, "objective_map", "The map over the exponents", caption, scene.tables["objective_map"])


def profile_of_E(scene: Scene) -> Figure | None:
    """The profile of E against its level, with the interval it gives and those by resampling."""
    rows = usable_rows(scene.tables, "profile_E", ["E", "statistic", "level"]).sort("E", maintain_order=True)
    if len(rows) < 3:
        return None
    level = _level(rows)
    E, statistic = rows["E"].to_numpy(), rows["statistic"].to_numpy()
    low, high = profile_interval(E, statistic, level)
    canvas, (axes,) = new_canvas(height=3.6)
    axes.axhline(level, color=MUTED, lw=0.9, ls=(0, (5, 2)), label="level of 95 %")
    axes.axvspan(low or E[0], high or E[-1], color=BLUE, alpha=0.12, lw=0)
    axes.plot(E, statistic, color=BLUE, label="profile")
    best = int(np.argmin(statistic))
    axes.plot([E[best]], [statistic[best]], "*", ms=12, color=ORANGE, mec=INK, mew=0.6, label="minimum", ls="none")
    fitted = scene.summary["laws"][scene.summary["chosen"]]
    others = []
    for key, label, colour, height in (
        ("intervals", "cells resampled", GREEN, 0.42),
        ("tree_intervals", "trees resampled", INK, 0.27),
    ):
        bounds = (fitted.get(key) or {}).get("E")
        if bounds and known(bounds[0]) and known(bounds[1]):
            axes.plot(bounds, [height * level] * 2, color=colour, lw=1.6, marker="|", ms=7, label=label)
            others.append(f"{label.split()[0]} {interval(*bounds)}")
    axes.set_xlabel("irreducible loss E (nats/token)")
    axes.set_ylabel("rise of the objective (F)")
    axes.set_ylim(bottom=-0.05 * float(statistic.max()))
    legend_above(canvas, axes)
    ends = f"from {decimal(low, 3) if low else 'below'} to {decimal(high, 3) if high else 'above this range'}"
    caption = (
        "The objective at each E with all else fitted again. Where it stays under the level, E is as good as the best: "
        f"{ends} nats/token{'; by resampling ' if others else ''}{', '.join(others)}. A flat floor would "
        "mean that the runs do not know E."
    )
    return _figure(canvas, "profile_of_E", "The profile of E", caption, scene.tables["profile_E"])


def profile_interval(E: NDArray, statistic: NDArray, level: float) -> tuple[float | None, float | None]:
    """Where the statistic first reaches `level` on each side of its minimum; None for an end outside the profile."""
    best = int(np.argmin(statistic))
    ends: list[float | None] = []
    for side in (range(best, 0, -1), range(best, len(E) - 1)):
        end = None
        for inner in side:
            outer = inner - 1 if side.step < 0 else inner + 1
            if statistic[outer] >= level:
                share = (level - statistic[inner]) / (statistic[outer] - statistic[inner])
                end = float(E[inner] + share * (E[outer] - E[inner]))
                break
        ends.append(end)
    return ends[0], ends[1]


def approaches(scene: Scene) -> Figure | None:
    """The exponent a by three approaches under each count of parameters, with intervals."""
    table = scene.tables.get("approaches", pl.DataFrame())
    rows = usable_rows(scene.tables, "approaches", ["a"])
    if rows.is_empty():
        return None
    counts = table["convention"].unique(maintain_order=True).to_list()
    canvas, (axes,) = new_canvas(height=1.5 + 0.62 * len(counts))
    for row in rows.iter_rows(named=True):
        colour, marker = _APPROACHES[row["approach"]]
        place = counts.index(row["convention"]) + 0.2 * (list(_APPROACHES).index(row["approach"]) - 1)
        low, high = row["low"], row["high"]
        if known(low) and known(high):
            axes.plot([low, high], [place, place], color=colour, lw=1.3)
        axes.scatter([row["a"]], [place], s=30, lw=0, marker=marker, color=colour, zorder=3)
    for name, (colour, marker) in _APPROACHES.items():
        if name in rows["approach"].to_list():
            axes.scatter([], [], s=30, lw=0, marker=marker, color=colour, label=name)
    axes.axvline(0.5, color=MUTED, lw=0.8, ls=":")
    verdicts = dict(table.select("convention", "agreement").iter_rows())
    labels = [f"{COUNTS[name]}\n{verdicts[name]}" for name in counts]
    axes.set_yticks(range(len(counts)), labels)
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xlabel("exponent a of N* ∝ Cᵃ")
    legend_above(canvas, axes)
    missing = table["a"].null_count()
    caption = (
        "The same runs, three ways to the exponent, four ways to count. Where the approaches agree, intervals of one "
        "count overlap; where a moves from count to count, it is the counting that moves it. Dotted: size and data "
        "growing alike."
    )
    if missing:
        caption += f" {missing} of {len(table)} are refused, each with its reason in the table."
    return _figure(canvas, "exponent_by_approach", "The exponent by approach and count", caption, table)


def _on_grid(rows: pl.DataFrame) -> tuple[NDArray, NDArray, NDArray]:
    """(alpha (m,), beta (n,), excess (m, n)) with the largest excess where a cell is missing."""
    alpha, beta = (np.unique(rows[name].to_numpy()) for name in ("alpha", "beta"))
    excess = np.full((len(alpha), len(beta)), rows["excess"].max())
    place = (np.searchsorted(alpha, rows["alpha"]), np.searchsorted(beta, rows["beta"]))
    excess[place] = rows["excess"].to_numpy()
    return alpha, beta, excess


def _level(rows: pl.DataFrame) -> float | None:
    levels = rows["level"].cast(pl.Float64).drop_nulls().drop_nans()
    return float(levels[0]) if len(levels) else None


def _touches(inside: NDArray) -> bool:
    return bool(inside[0].any() or inside[-1].any() or inside[:, 0].any() or inside[:, -1].any())


def _figure(canvas, name: str, title: str, caption: str, table: pl.DataFrame) -> Figure:
    return Figure(name, title, caption, svg_text(canvas, name, f"{title}. {caption}"), table, check=True)
