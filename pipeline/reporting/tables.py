"""Tables of the page as values: what is shown, the number behind it, and the full frame published beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.reporting.numbers import (
    DASH,
    count,
    decimal,
    duration,
    known,
    percent,
    places_for,
    probability,
    significant,
    whole,
)

Number = float | int | None

TABLE_KINDS = ("csv", "parquet", "json")
"""The kinds of file in which every table lies beside the page."""
MOST_ROWS = 200
"""Rows of a frame that the page shows; the file beside it has all."""


@dataclass(frozen=True)
class Piece:
    """A part of a cell: its text, and the number behind it at full precision (None for plain words)."""

    text: str
    value: Number = None


@dataclass(frozen=True)
class Cell:
    """A table cell; `numeric` keeps it on one line, `verdict` colours it, `note` is a smaller line under it, `link` the
    id of a place on the page that it leads to."""

    pieces: tuple[Piece, ...]
    numeric: bool = False
    verdict: str | None = None
    note: str = ""
    link: str | None = None

    @property
    def text(self) -> str:
        """The cell as one string."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Table:
    """A table of the page. `frame` is published under `name`; `folded` hides it behind a summary line.

    `row_headed` makes the first cell of each row its header; `groups`, empty or one heading a row, puts a heading
    before each run of equal ones. `rows` are those of the page: `left_out` more are in the file alone.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    frame: pl.DataFrame
    empty: str = "none"
    folded: bool = False
    row_headed: bool = False
    groups: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def num_rows(self) -> int:
        """Rows in all, those that the page leaves out included."""
        return len(self.rows) + self.left_out


def words(text: Any, verdict: str | None = None, note: str = "", link: str | None = None) -> Cell:
    """A cell of words; None becomes a dash."""
    return Cell((Piece(DASH if text is None else str(text)),), verdict=verdict, note=note, link=link)


def number(value: Number, form: Callable[[Number], str]) -> Cell:
    """A cell of one number, shown by `form`."""
    return Cell((Piece(form(value), value if known(value) else None),), numeric=True)


def estimate(value: Number, bounds: Sequence[Number] | None, form: Callable[[Number], str] | None = None) -> Cell:
    """A cell `value [low, high]`, shown by `form` or else with decimals that fit the width of the interval."""
    low, high = bounds or (None, None)
    if not (known(value) and known(low) and known(high)):
        return number(value, form or significant)
    largest = max(abs(low), abs(high), abs(value))
    places = places_for(low, high, value)
    form = form or (significant if largest >= 1e6 or largest < 1e-3 else lambda bound: decimal(bound, places))
    if low == high:
        return number(value, form)
    pieces = (Piece(form(value), value), Piece(" ["), Piece(form(low), low), Piece(", "), Piece(form(high), high))
    return Cell((*pieces, Piece("]")), numeric=True)


def bounds(low: Number, high: Number, form: Callable[[Number], str] | None = None) -> Cell:
    """A cell `low to high`, shown by `form` or with decimals that fit the width; a dash unless both are known."""
    if not (known(low) and known(high)):
        return number(None, significant)
    places = places_for(low, high, None)
    huge = max(abs(low), abs(high)) >= 1e6
    form = form or (significant if huge else lambda end: decimal(end, places))
    return Cell((Piece(form(low), low), Piece(" to "), Piece(form(high), high)), numeric=True)


FORMS: Mapping[str, Callable[[Number], str]] = {
    "whole": whole,
    "count": count,
    "significant": significant,
    "percent": percent,
    "fine_percent": lambda value: percent(value, 3),
    "duration": duration,
    "flops": lambda value: significant(value, 3, scientific_from=1.0),
    "probability": probability,
    "loss": lambda value: decimal(value, 4),
}


def from_frame(
    name: str, title: str, caption: str, frame: pl.DataFrame, columns: Mapping[str, tuple[str, str]], **options: Any
) -> Table:
    """A table of a frame: `columns` gives for each shown column its heading and the name of a form, or "words".

    Columns that the frame lacks are left out, and rows after the first MOST_ROWS.
    """
    shown = {column: look for column, look in columns.items() if column in frame.columns}
    rows = tuple(
        tuple(
            words(row[column]) if form == "words" else number(row[column], FORMS[form])
            for column, (_, form) in shown.items()
        )
        for row in frame.head(MOST_ROWS).iter_rows(named=True)
    )
    header = tuple(heading for heading, _ in shown.values())
    return Table(name, title, caption, header, rows, frame, left_out=len(frame) - len(rows), **options)


def of_facts(name: str, title: str, caption: str, facts: Sequence[tuple[str, Any]], **options: Any) -> Table:
    """A table of names and values, both as text."""
    shown = [(key, DASH if value is None else str(value)) for key, value in facts]
    frame = pl.DataFrame(shown, schema={"name": pl.String, "value": pl.String}, orient="row")
    rows = tuple((words(key), words(value)) for key, value in shown)
    return Table(name, title, caption, ("name", "value"), rows, frame, row_headed=True, **options)


def table_files(name: str, frame: pl.DataFrame) -> dict[str, bytes]:
    """The frame under tables/ as csv (nested columns as text), parquet, and json (a list of rows), by path.

    JSON knows no nan and no infinity: both are null there.
    """
    nested = [column for column, kind in frame.schema.items() if kind.is_nested()]
    flat = frame.with_columns(pl.col(nested).cast(pl.String) if nested else [])
    parquet = io.BytesIO()
    frame.write_parquet(parquet)
    contents = {"csv": flat.write_csv().encode(), "parquet": parquet.getvalue(), "json": frame.write_json().encode()}
    return {f"tables/{name}.{kind}": contents[kind] for kind in TABLE_KINDS}
