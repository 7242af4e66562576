"""A user's table of finished runs as the runs that a law is fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.external.columns import UNITS, columns_of, further_columns, plain_name
from pipeline.external.table_file import Sheet, labels, numbers
from pipeline.fitting.checks import Caution, table_cautions, unit_cautions
from pipeline.fitting.laws import Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.runs import Runs

UNFINISHED = ("running", "crashed", "failed", "killed", "preempted", "pending")
"""What a column `State` says of a run that has no final loss."""


@dataclass(frozen=True)
class RunTable:
    """Runs read from `path`, each once; `notes` say which of its runs were left out when it was read.

    `columns` maps N, D, L, C to the file's own names; `absent` are those of N and D that the file does not hold and
    the law does not use (they stand at 1, or so that C = 6 N D). `as_given` are the same runs with N and D as the file
    has them, which are not those of `runs` where a law of C takes the file's own C. `copies` (rows,) marks rows that
    repeat another in every column. `clusters` (n,) label dependent runs, None without; `recipes` are the labels of
    recipe 0 and 1. `cautions` is what the columns alone show.
    """

    path: str
    notes: tuple[str, ...]
    runs: Runs
    as_given: Runs
    columns: dict[str, str]
    absent: tuple[str, ...]
    clusters: NDArray[np.int64] | None
    recipes: tuple[str, str] | None
    copies: NDArray[np.bool_]
    cautions: list[Caution]

    @property
    def num_rows(self) -> int:
        """Rows of the file, copies among them."""
        return len(self.copies)


def read_runs(
    sheet: Sheet, form: type[Law], named: dict[str, str | None], cluster: str | None = None, recipe: str = "recipe"
) -> RunTable:
    """The runs of the rows in `sheet`; `named` maps N, D, L, C to columns, None for a usual name.

    `cluster` is a column, or "size" for the values of N; `recipe` the column of recipes for a law that compares two.
    Raises ValueError in one line for a column that is missing or ambiguous and for a value that is no positive number.
    """
    columns = columns_of(sheet, named)
    if "L" not in columns:
        raise ValueError(f"{sheet.name}: no column of L ({UNITS['L']}); name it by --L; {sheet.has()}")
    given = {letter: numbers(sheet, name) for letter, name in columns.items()}
    N, D, C, absent = _filled(sheet, form, given)
    more, recipes = _more(sheet, form, recipe)
    members = _members(sheet, cluster, given)
    copies = _copies(sheet, {columns[letter]: values for letter, values in given.items()})
    kept = ~copies
    runs = Runs.of(N[kept], D[kept], given["L"][kept], C[kept], columns={name: one[kept] for name, one in more.items()})
    as_given = Runs.of(given.get("N", N)[kept], given.get("D", D)[kept], runs.L, runs.C)
    cautions = _cautions(as_given, form, set(given), absent, int(copies.sum())) + _unfinished(sheet)
    members = None if members is None else members[kept]
    return RunTable(sheet.name, sheet.notes, runs, as_given, columns, absent, members, recipes, copies, cautions)


def _filled(
    sheet: Sheet, form: type[Law], given: dict[str, NDArray]
) -> tuple[NDArray, NDArray, NDArray, tuple[str, ...]]:
    """(N, D, C, what of N and D stands at a filling): the two that are there give the third by C = 6 N D."""
    N, D, C = (given.get(letter) for letter in "NDC")
    six = FLOPS_PER_PARAMETER_TOKEN
    one = np.ones(len(sheet.frame))
    alone = next(iter(form.levels)) if len(form.levels) == 1 else None
    if N is None and D is not None and C is not None:
        N = C / (six * D)
    elif D is None and N is not None and C is not None:
        D = C / (six * N)
    elif alone == "C" and C is not None:  # the law is of the C that was given, whatever N and D say
        return (C / six, one, C, ("N", "D")) if N is None else (C / (six * D), D, C, ())
    elif alone == "N" and N is not None and D is None:
        return N, one, six * N, ("D",)
    elif alone == "D" and D is not None and N is None:
        return one, D, six * D, ("N",)
    missing = [letter for letter, values in (("N", N), ("D", D)) if values is None]
    if missing:
        needed = f"the law {form.name} needs it" if alone is None else f"the law {form.name} needs {alone}"
        wanted = missing[0] if alone is None or alone == "C" else alone
        raise ValueError(
            f"{sheet.name}: no column of {wanted} ({UNITS[wanted]}); {needed}; name it by --{wanted}; {sheet.has()}"
        )
    return N, D, six * N * D if C is None else C, ()


def _more(sheet: Sheet, form: type[Law], recipe: str) -> tuple[dict, tuple[str, str] | None]:
    """(the further columns of the law, the labels of recipe 0 and 1)."""
    more, recipes = {}, None
    for name, column in further_columns(sheet, form, recipe).items():
        if name != "recipe":
            more[name] = numbers(sheet, column)
            continue
        values = labels(sheet, column)
        distinct = list(dict.fromkeys(values))
        if len(distinct) != 2:
            shown = ", ".join(map(repr, distinct[:5]))
            raise ValueError(
                f"{sheet.name}: column {column!r} holds {len(distinct)} recipes ({shown}); two are compared"
            )
        recipes = (distinct[0], distinct[1])
        more[name] = np.array([value == distinct[1] for value in values], float)
    return more, recipes


def _members(sheet: Sheet, cluster: str | None, given: dict[str, NDArray]) -> NDArray | None:
    if cluster is None:
        return None
    if cluster in sheet.frame.columns:
        return np.unique(labels(sheet, cluster), return_inverse=True)[1].reshape(-1)
    if cluster != "size":
        raise ValueError(f"{sheet.name}: --cluster: no column {cluster!r}; {sheet.has()}; `size` groups runs by N")
    if "N" not in given:
        raise ValueError(f"{sheet.name}: --cluster: size groups runs by N, which the table does not hold")
    return np.unique(given["N"], return_inverse=True)[1].reshape(-1)


def _copies(sheet: Sheet, read: dict[str, NDArray]) -> NDArray[np.bool_]:
    """Which rows repeat an earlier one in every column of the table: replicates of rounded losses are none.

    The columns that were `read` as numbers are compared as numbers, however they are written.
    """
    if sheet.copies is not None:
        return sheet.copies
    frame = sheet.frame.with_columns(pl.Series(name, values) for name, values in read.items())
    return ~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()


def _cautions(
    as_given: Runs, form: type[Law], given: set[str], absent: tuple[str, ...], num_copies: int
) -> list[Caution]:
    """What the columns show, less what has another cause: a narrow D / N for laws of one variable, swapped columns
    where the units are wrong."""
    letters = [letter for letter in "NDC" if letter in given or letter in set("ND") - set(absent)]
    units = unit_cautions({letter: getattr(as_given, letter) for letter in letters}, given)
    found = units + table_cautions(as_given, {"N", "D", "C"} <= given, not absent, num_copies)
    moot = ({"narrow_ratio"} if len(form.levels) == 1 else set()) | ({"swapped_columns"} if units else set())
    return [caution for caution in found if caution.name not in moot]


def _unfinished(sheet: Sheet) -> list[Caution]:
    """A warning where a column `State`, as wandb exports it, says that runs among the rows never ended well."""
    found = []
    for column in (name for name in sheet.frame.columns if plain_name(name) == "state"):
        states = [str(state).lower() for state in sheet.frame[column]]
        counts = {state: states.count(state) for state in UNFINISHED if state in states}
        if counts:
            told = ", ".join(f"{count} {state}" for state, count in counts.items())
            text = f"column {column!r} calls {told} of {len(states)} runs: leave them out by --where {column}=finished"
            found.append(Caution("unfinished_runs", text))
    return found
