"""The figure that most laws need: measured points over a sweep, theory as lines, and the ends of the regime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    legend_above,
    linear_axis,
    new_canvas,
    plain_log_axis,
    shades,
    styled,
    svg_text,
)
from pipeline.reporting.numbers import count

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56b4e9", "#e69f00")
"""Okabe and Ito's palette."""
MOST_DOTS = 40
"""Points of a curve up to which each of them is marked."""


def panel(
    name: str,
    title: str,
    caption: str,
    table: pl.DataFrame,
    x: str,
    y: str | Mapping[str, str],
    *,
    x_label: str,
    y_label: str,
    by: str | None = None,
    by_label: str = "",
    error: str | None = None,
    theory: str | None = None,
    joined: bool = True,
    logs: str = "xy",
    vertical: Mapping[str, float | None] | None = None,
    horizontal: Mapping[str, float | None] | None = None,
) -> Figure:
    """The figure `name`, drawn from `table` and from nothing else.

    `y` is a column, or several with their labels. `by` names a column with a colour for each of its values. `error` is
    a column of standard errors, drawn as bars of 1.96 of them; `theory` a column drawn as a line, broken where it has
    no value, the measured column then as dots alone. `joined` connects the dots where there is no theory. `logs` says
    which axes are logarithmic.
    `vertical` and `horizontal` are labelled places: a predicted boundary, a threshold; None is left out.
    """
    columns = {y: ""} if isinstance(y, str) else dict(y)
    groups = _groups(table.drop_nulls([x]), by)
    colours = _colours(groups, columns)
    with styled():
        canvas, (axes,) = new_canvas()
        for key, rows in groups:
            ordered = rows.sort(x)
            for column, words in columns.items():
                part = ordered.drop_nulls([column])
                label = ", ".join(text for text in (_said(key), words) if text)
                colour = colours[key, column]
                line = "-" if joined and theory is None else "none"
                marker = "o" if len(part) <= MOST_DOTS or line == "none" else None
                axes.plot(part[x], part[column], marker=marker, ms=3.8, lw=0.9, ls=line, color=colour, label=label)
                if error:
                    bars = 1.96 * part[error].fill_null(0.0).fill_nan(0.0)
                    axes.errorbar(part[x], part[column], yerr=bars, fmt="none", ecolor=colour, elinewidth=0.9)
            if theory:
                line = ordered[theory].cast(pl.Float64).fill_null(np.nan)
                axes.plot(ordered[x], line, color=colours[key, next(iter(columns))], lw=1.1, alpha=0.75)
        _scale(axes, "x", "x" in logs, x_label, table[x])
        values = [table[column] for column in (*columns, *([theory] if theory else []))]
        _scale(axes, "y", "y" in logs, y_label, pl.concat([series.cast(pl.Float64).alias("y") for series in values]))
        for index, (words, place) in enumerate((vertical or {}).items()):
            if place is not None:
                style = ("--", ":", "-.")[index % 3]
                axes.axvline(place, color=ORANGE if index else INK, lw=1.0, ls=style, label=words)
        for index, (words, place) in enumerate((horizontal or {}).items()):
            if place is not None:
                axes.axhline(place, color=MUTED, lw=1.0, ls=("--", ":", "-.")[index % 3], label=words)
        legend_above(canvas, axes, by_label)
        return Figure(name, title, caption, svg_text(canvas, name, f"{title}. {caption}"), table)


def _groups(table: pl.DataFrame, by: str | None) -> list[tuple[object, pl.DataFrame]]:
    if by is None:
        return [(None, table)]
    return [(key[0], rows) for key, rows in table.sort(by).group_by(by, maintain_order=True)]


def _colours(groups: list[tuple[object, pl.DataFrame]], columns: Mapping[str, str]) -> dict[tuple, str]:
    keys = [key for key, _ in groups]
    if len(columns) == 1 and len(keys) > len(COLOURS):
        ramp = list(shades(range(len(keys))).values())
        return {(key, column): ramp[index] for index, key in enumerate(keys) for column in columns}
    pairs = [(key, column) for key in keys for column in columns]
    return {pair: COLOURS[index % len(COLOURS)] for index, pair in enumerate(pairs)}


def _said(key: object) -> str:
    if key is None:
        return ""
    return count(key) if isinstance(key, (int, float)) and not isinstance(key, bool) else str(key)


def _scale(axes, which: str, logarithmic: bool, label: str, values: pl.Series) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    known = [value for value in values.cast(pl.Float64).to_list() if value is not None and np.isfinite(value)]
    if logarithmic:
        plain_log_axis(axis, known, label)
    else:
        linear_axis(axis, label)
