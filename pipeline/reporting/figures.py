"""The look that all figures share, and SVG text that is the same bytes for the same data.

Matplotlib is imported by what draws: a law's module is read by every stage, and only the report draws.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reporting.numbers import count, significant
from pipeline.reporting.thin_svg import thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

INK = "#1f2430"
MUTED = "#6b7280"
PAPER = "#fdfdfc"
# Okabe and Ito's palette, told apart by every common kind of colour vision.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"

LONGEST_LEGEND = 12
"""Entries of a legend; of more, evenly spaced ones are kept, which a sequential colour map makes readable."""
FEWEST_TICKS = 3
"""Ticks of a logarithmic axis; where fewer round ones lie in its range, it is marked in even steps."""

_STYLE = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.title_fontsize": 9.0,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "path.simplify": True,
}


def styled() -> AbstractContextManager:
    """A context in which matplotlib draws in the study's style and leaves no trace after it."""
    import matplotlib

    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "svg"})


def new_canvas(rows: int = 1, height: float = 3.9) -> tuple[Canvas, list[Axes]]:
    """A canvas 5.6 inches wide (legible on a telephone) and its axes, one below the other with a common x."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.6, height))
    FigureCanvasSVG(canvas)
    axes = canvas.subplots(rows, 1, squeeze=False, sharex=True)
    return canvas, list(axes[:, 0])


def svg_text(canvas: Canvas, name: str, title: str) -> str:
    """The canvas as thin SVG: no date, ids that begin with `name`, `title` for screen readers."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        # Saving would lay out by drawing everything once more. SVG has 72 dots an inch.
        canvas.dpi = 72
        canvas.get_layout_engine().execute(canvas)
        canvas.set_layout_engine("none")
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return thinned(svg[svg.index("<svg") :], name, title)


def legend_above(canvas: Canvas, axes: Axes, title: str = "") -> None:
    """Put the legend of `axes` above the canvas, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    shown = list(dict(zip(labels, handles, strict=True)).items())
    if len(shown) > LONGEST_LEGEND:
        kept = np.linspace(0, len(shown) - 1, LONGEST_LEGEND).round().astype(int)
        shown = [shown[index] for index in kept]
    columns = max(1, min(len(shown), 78 // (6 + max((len(label) for label, _ in shown), default=0))))
    if shown:
        # Matplotlib fills column by column; people read row by row.
        ordered = [entry for start in range(columns) for entry in shown[start::columns]]
        canvas.legend(
            [handle for _, handle in ordered],
            [label for label, _ in ordered],
            title=title or None,
            loc="outside upper left",
            ncols=columns,
            alignment="left",
            handletextpad=0.5,
            columnspacing=1.2,
        )


def shades(values: Iterable[float], colour_map: str = "viridis") -> dict[float, str]:
    """A colour for each distinct value, in order of size, from a sequential map without its palest end."""
    import matplotlib

    ordered = sorted(set(values))
    positions = np.linspace(0.0, 0.82, max(len(ordered), 2))[: len(ordered)]
    colours = matplotlib.colormaps[colour_map]
    return {
        value: matplotlib.colors.to_hex(colours(position)) for value, position in zip(ordered, positions, strict=True)
    }


def count_axis(axis: Axis, values: Sequence[float], label: str) -> None:
    """Make a logarithmic axis of parameters or tokens, ticks as 20 k, 1 M."""
    _log_axis(axis, values, label, count)


def power_axis(axis: Axis, values: Sequence[float], label: str) -> None:
    """Make a logarithmic axis of FLOPs, ticks as powers of ten."""
    _log_axis(axis, values, label, _power)


def plain_log_axis(axis: Axis, values: Sequence[float], label: str) -> None:
    """Make a logarithmic axis of any positive quantity, ticks in plain digits, or powers of ten where they are long."""
    _log_axis(axis, values, label, lambda value: f"{value:g}" if 1e-3 <= value < 1e4 else _power(value))


def linear_axis(axis: Axis, label: str) -> None:
    """Make an axis of at most seven even steps."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=7))
    axis.set_label_text(label)


def loss_axis(axis: Axis, values: Sequence[float], label: str) -> None:
    """Make a logarithmic axis of losses over less than a few octaves, ticks at round numbers."""
    low, high = _finite_range(values)
    margin = (high / low) ** 0.06
    _set_scale(axis, low / margin, high * margin)
    _set_ticks(axis, _even_ticks(low, high), lambda value: f"{value:g}", label)


def _even_ticks(low: float, high: float) -> list[float]:
    """At most seven even steps from `low` to `high`, at round numbers above zero."""
    from matplotlib.ticker import MaxNLocator

    return [tick for tick in MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if tick > 0]


def _power(value: float) -> str:
    """A power of ten with as many digits before it as `value` has, five at most."""
    digits = (number for number in range(1, 5) if math.isclose(float(f"{value:.{number - 1}e}"), value))
    return significant(value, next(digits, 5), scientific_from=1.0)


def _log_axis(axis: Axis, values: Sequence[float], label: str, form) -> None:
    low, high = _finite_range(values)
    margin = (high / low) ** 0.05
    decades = np.log10(high / low)
    steps = (
        (1, 1.5, 2, 3, 4, 5, 7) if decades < 0.9 else (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.2 else (1,)
    )
    apart = max(1, round(decades / 8))
    powers = range(int(np.floor(np.log10(low / margin))), int(np.ceil(np.log10(high * margin))) + 1, apart)
    ticks = [step * 10.0**power for power in powers for step in steps]
    _set_scale(axis, low / margin, high * margin)
    inside = [tick for tick in ticks if low / margin <= tick <= high * margin]
    _set_ticks(axis, inside if len(inside) >= FEWEST_TICKS else _even_ticks(low, high), form, label)


def _finite_range(values: Sequence[float]) -> tuple[float, float]:
    kept = [float(value) for value in values if value is not None and np.isfinite(value) and value > 0]
    low, high = (min(kept), max(kept)) if kept else (1.0, 10.0)
    return (low, high) if high > low * 1.001 else (low / 2, high * 2)


def _set_scale(axis: Axis, low: float, high: float) -> None:
    place, limits = (
        (axis.axes.set_xscale, axis.axes.set_xlim)
        if axis.axis_name == "x"
        else (
            axis.axes.set_yscale,
            axis.axes.set_ylim,
        )
    )
    place("log")
    limits(low, high)


def _set_ticks(axis: Axis, ticks: Sequence[float], form, label: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axis.set_label_text(label)
