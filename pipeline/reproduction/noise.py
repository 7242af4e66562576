"""How far numbers of runs lie apart that differ by their seed alone: what a retrained run is measured with.

The rows of retrained runs stand in for the published ones, so that a published number never widens what it is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from pipeline.reproduction.published import Tables

CURVE = "curve."
"""Before the name of a column of curves, to tell it from one of runs."""
SAME_POINT = ("kind", "width", "D")
"""What runs of the scaling study at one point share."""


@dataclass(frozen=True)
class Spread:
    """The sd between seeds of a number, of its logarithm if `relative`, with its degrees of freedom."""

    sd: float
    freedom: int
    relative: bool = False


Spreads = Callable[[str], Spread | None]
"""The spread of a column of one run, None where seeds do not tell it."""


def replaced(published: Tables, retrained: Tables) -> Tables:
    """The published tables with the rows of retrained runs in place of theirs."""
    again = retrained.runs["run_id"].implode()
    runs, curves = (
        pl.concat([old.filter(~pl.col("run_id").is_in(again)), new], how="diagonal_relaxed")
        for old, new in ((published.runs, retrained.runs), (published.curves, retrained.curves))
    )
    return replace(published, runs=runs, curves=curves)


@dataclass(frozen=True)
class StudyNoise:
    """Noise of the scaling study: relative, and pooled over all points that have several seeds."""

    tables: Tables

    @cached_property
    def _points(self) -> list[list[str]]:
        finished = self.tables.runs.filter(pl.col("status") == "finished")
        return [ids for ids in finished.group_by(SAME_POINT).agg("run_id")["run_id"].to_list() if len(ids) > 1]

    @cached_property
    def _found(self) -> dict[str, Spread | None]:
        return {}

    def of(self, column: str) -> Spread | None:
        """The spread of a column."""
        if column not in self._found:
            self._found[column] = self._pooled(column)
        return self._found[column]

    def _pooled(self, column: str) -> Spread | None:
        parts = [one for ids in self._points if (one := _between(self.tables, ids, column, logarithmic=True))]
        freedom = sum(one.freedom for one in parts)
        if not freedom:
            return None
        return Spread(float(np.sqrt(sum(one.sd**2 * one.freedom for one in parts) / freedom)), freedom, True)


@dataclass(frozen=True)
class LawNoise:
    """Noise of a law of learning mechanics, between the runs of one kind whose `settings` are equal; in raw units."""

    tables: Tables
    settings: tuple[str, ...]

    def of(self, run_id: str) -> Spreads:
        """The spreads of the columns of one run."""
        own = self.tables.row(run_id)
        alike = self.tables.runs.filter(
            pl.col("status") == "finished",
            *(pl.col(name).eq_missing(pl.lit(own[name])) for name in ("kind", *self.settings) if name in own),
        )
        return lambda column: _between(self.tables, alike["run_id"].to_list(), column)


def _between(tables: Tables, ids: list[str], column: str, logarithmic: bool = False) -> Spread | None:
    """The spread over the runs `ids`; over curves of one length, the root mean square of that of each row."""
    if column.startswith(CURVE):
        curves = [tables.curve(run_id) for run_id in ids]
        name = column.removeprefix(CURVE)
        values = [curve[name].to_numpy().astype(float) for curve in curves if name in curve.columns]
        values = [x for x in values if len(x) == len(values[0])]
    else:
        rows = tables.runs.filter(pl.col("run_id").is_in(ids))
        values = [np.array([float(x)]) for x in (rows[column] if column in rows.columns else ()) if x is not None]
    values = [x for x in values if np.isfinite(x).all() and not (logarithmic and (x <= 0).any())]
    if len(values) < 2:
        return None
    table = np.log(values) if logarithmic else np.array(values)
    return Spread(float(np.sqrt(table.var(axis=0, ddof=1).mean())), len(values) - 1, logarithmic)
