"""Recipes side by side: what each dial of the study's recipe costs against the best value that was tried."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipeline.experiments.laws.recipe_optimum.tables import OPTIMA
from pipeline.reporting.numbers import percent, significant
from pipeline.reporting.tables import Cell, Piece, Table, estimate, number, words


def recipes_table(optima: pl.DataFrame | None) -> Table:
    """The study's recipe beside its neighbours: for each dial and width the best value, and what that would save.

    `optima` is the table of that name of the law recipe_optimum, None where it was not tested.
    """
    optima = pl.DataFrame(schema=OPTIMA) if optima is None else optima
    rows, groups = [], []
    for row in optima.iter_rows(named=True):
        rows.append(
            (
                words(f"width {row['width']}"),
                number(row["study"], significant),
                estimate(row["optimum"], (row["optimum_low"], row["optimum_high"]), significant)
                if row["bracketed"]
                else words("at an end of the values tried, or not settled"),
                _saving(row),
                words(row["verdict"].replace("_", " "), row["verdict"]),
            )
        )
        groups.append(row["dial"])
    caption = (
        "Every dial of the study's recipe moved alone, the others as they are: its value, the best one, and the part "
        "of the loss that the best one would save, with 95 % intervals; at least (≥) so much where the best is not "
        "known. “Holds”: within the tolerance of the best. Another recipe as a whole is compared by its fit, under "
        "“What a budget buys”, or by study fit --law two_recipes."
    )
    header = ("size", "this study", "best value", "loss it would save", "at its optimum")
    none = "none: the law recipe_optimum was not tested, so no other recipe was tried"
    return Table(
        "recipes", "Recipes compared", caption, header, tuple(rows), optima, none, row_headed=True, groups=tuple(groups)
    )


def _saving(row: dict) -> Cell:
    """What the best value would save; a lower bound where the sweep does not hold it."""
    saving = estimate(row["regret"], (row["regret_low"], row["regret_high"]), percent)
    if row["bracketed"] or row["regret"] is None:
        return saving
    return replace(saving, pieces=(Piece("≥ "), *saving.pieces))
