"""Rows of a table by what their columns hold: `loss<4`, `state=finished`, `name=a|b`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.external.table_file import Sheet

_FORM = re.compile(r"(?P<column>.+?)\s*(?P<sign><=|>=|!=|<|>|=)\s*(?P<value>.*)", re.DOTALL)
_COMPARE = {"<=": le, ">=": ge, "<": lt, ">": gt}


@dataclass(frozen=True)
class Condition:
    """What a column must hold: `sign` is =, != (any, none of the values that | parts), <=, >=, < or > (one number)."""

    column: str
    sign: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """The condition COLUMN<sign>VALUE; raises ValueError for other words."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"--where: {text!r} is not COLUMN=VALUE, nor with one of != <= >= < > for =")
        column, sign, value = found["column"], found["sign"], found["value"].strip()
        if sign in _COMPARE and _number(value) is None:
            raise ValueError(f"--where: {text!r}: {value!r} is not a number")
        return cls(column, sign, (value,) if sign in _COMPARE else tuple(one.strip() for one in value.split("|")))

    @property
    def text(self) -> str:
        """The condition as it is written."""
        return f"{self.column}{self.sign}{'|'.join(self.values)}"

    def holds(self, sheet: Sheet) -> NDArray[np.bool_]:
        """Which rows fulfil it, shape (n,). A number equals another way to write it; a missing one is in no range.

        Raises ValueError for a column that is missing and, in a comparison, for a value that is no number.
        """
        if self.column not in sheet.frame.columns:
            raise ValueError(f"{sheet.name}: --where {self.text}: no column {self.column!r}; {sheet.has()}")
        given = sheet.frame[self.column]
        if given.dtype.is_nested():
            raise ValueError(f"{sheet.name}: --where {self.text}: the column holds {given.dtype}")
        cells = ["" if value is None else str(value).strip() for value in given]
        found = [_number(cell) for cell in cells]
        if self.sign not in _COMPARE:
            wanted = [_number(value) for value in self.values]
            equal = [
                cell in self.values or (number is not None and number in wanted)
                for cell, number in zip(cells, found, strict=True)
            ]
            return np.array(equal, bool) == (self.sign == "=")
        wrong = [place for place, cell in enumerate(cells) if cell and found[place] is None]
        if wrong:
            place = wrong[0]
            raise ValueError(
                f"{sheet.name}: row {sheet.rows[place]}: --where {self.text}: {cells[place]!r} is not a number"
            )
        bound = _number(self.values[0])
        return np.array([number is not None and _COMPARE[self.sign](number, bound) for number in found], bool)


def chosen(sheet: Sheet, conditions: Sequence[Condition]) -> Sheet:
    """The rows that fulfil every condition; raises ValueError where none does."""
    kept = np.ones(len(sheet.frame), bool)
    for condition in conditions:
        kept &= condition.holds(sheet)
        if not kept.any():
            raise ValueError(
                f"{sheet.name}: --where {condition.text}: none of {len(kept)} rows is left"
                + ("" if len(conditions) == 1 else f" by {', '.join(one.text for one in conditions)}")
            )
    if kept.all():
        return sheet
    note = f"{kept.sum()} of {len(kept)} rows chosen by {', '.join(one.text for one in conditions)}"
    return Sheet(sheet.name, sheet.frame.filter(pl.Series(kept)), sheet.rows[kept], (*sheet.notes, note))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if np.isnan(value) else value
