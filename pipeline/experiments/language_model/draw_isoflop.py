"""The figure of isoFLOP slices: loss against size on each budget, with the minima of the parabolas fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.experiments.language_model.scene import SIZE, Scene, usable_rows
from pipeline.fitting.isoflop import WINDOW
from pipeline.reporting.chapter import Figure
from pipeline.reporting.figures import INK, count_axis, legend_above, loss_axis, new_canvas, shades, svg_text
from pipeline.reporting.numbers import significant

MOST_SIZES = 60
"""Sizes that a slice of equal compute shows."""
TITLE = "IsoFLOP slices"


def isoflop(scene: Scene) -> Figure | None:
    """Loss against N at equal compute, with the parabolas and their minima where one was accepted."""
    rows = usable_rows(scene.tables, "isoflop", ["C", "N", "loss"])
    if rows.is_empty():
        return None
    rows = with_minima(rows.sort("C", "N"))
    canvas, (axes,) = new_canvas()
    colours = shades(rows["C"], "plasma")
    for (C,), slice_ in rows.group_by("C", maintain_order=True):
        dots = slice_.gather_every(-(-len(slice_) // MOST_SIZES))
        label = significant(C, 2, scientific_from=1)
        axes.plot(dots["N"], dots["loss"], color=colours[C], marker="o", ms=3.6, lw=0.9, label=label)
        if slice_["N_star"][0] is not None:
            _minimum(axes, slice_, colours[C])
    count_axis(axes.xaxis, [*rows["N"], *rows["N_star"].drop_nulls()], SIZE)
    loss_axis(axes.yaxis, [*rows["loss"], *rows["loss_star"].drop_nulls()], "interpolated loss (nats/token)")
    legend_above(canvas, axes, "C (FLOPs)")
    caption = (
        "Loss at equal compute, interpolated in D between the runs of a size. Dotted: the parabola fitted to the sizes "
        "around the smallest loss; a star marks its minimum, which need not lie on the line between dots. Budgets "
        "without one are refused in the table, with the reason."
    )
    if rows["N"].n_unique() > MOST_SIZES:
        caption += f" Of many sizes a budget shows at most {MOST_SIZES}, evenly spaced."
    return Figure("isoflop", TITLE, caption, svg_text(canvas, "isoflop", f"{TITLE}. {caption}"), rows, check=True)


def with_minima(rows: pl.DataFrame) -> pl.DataFrame:
    """The slices, C and N rising, with `loss_star`: the loss (nats/token) of the fitted parabola at N_star."""
    parts = []
    for _, slice_ in rows.group_by("C", maintain_order=True):
        N_star, loss = slice_["N_star"][0], None
        if N_star is not None:
            loss = float(_parabola(slice_)[1](np.log(N_star)))
        parts.append(slice_.with_columns(loss_star=pl.lit(loss, pl.Float64)))
    return pl.concat(parts)


def _minimum(axes, slice_: pl.DataFrame, colour: str) -> None:
    """Draw the parabola of a slice over the sizes it was fitted to, and its minimum as a star."""
    log_N, loss = _parabola(slice_)
    places = np.linspace(log_N[0], log_N[-1], 60)
    axes.plot(np.exp(places), loss(places), color=colour, lw=0.9, ls=":")
    star = slice_.head(1)
    axes.plot(star["N_star"], star["loss_star"], marker="*", ms=10, color=colour, mec=INK, mew=0.6, zorder=4)


def _parabola(slice_: pl.DataFrame) -> tuple[NDArray, Callable]:
    """(ln N of the sizes around the smallest loss, the loss in nats/token of the parabola through them against ln N).

    It is fitted in ln L, as by pipeline/fitting/isoflop.py, so that its vertex is N_star.
    """
    log_N, log_L = (np.log(slice_[column].to_numpy()) for column in ("N", "loss"))
    start = int(np.clip(np.argmin(log_L) - WINDOW // 2, 0, max(0, len(log_N) - WINDOW)))
    window = slice(start, start + WINDOW)
    fitted = np.polynomial.Polynomial.fit(log_N[window], log_L[window], 2)

    def loss(places: NDArray | float) -> NDArray:
        return np.exp(fitted(places))

    return log_N[window], loss
