"""A user's table of finished runs as the runs that a law is fitted to."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.external.table_file import Sheet, labels, numbers
from pipeline.fitting.checks import Caution, table_cautions
from pipeline.fitting.laws import Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.runs import Runs

NAMES = {
    letter: frozenset(names.split())
    for letter, names in {
        "N": "n params parameters num_params num_parameters n_params n_parameters nparams param_count parameter_count "
        "model_size model_params n_total n_non_embedding n_with_head non_embedding_params non_embedding_parameters",
        "D": "d tokens training_tokens train_tokens num_tokens n_tokens tokens_seen total_tokens dataset_size "
        "dataset_tokens num_train_tokens train_num_input_tokens_seen",
        "L": "l loss val_loss validation_loss valid_loss eval_loss test_loss final_loss",
        "C": "c flop flops training_flop training_flops train_flop train_flops total_flops total_flos train_total_flos "
        "flops_budget compute training_compute",
    }.items()
}
"""Usual names of each column, in lower case with underscores."""
TRACKED = re.compile(r"(config|summary|params|metrics)[/.](?P<name>.+?)(/value)?")
"""Names as trackers export them: `config/n_params`, `summary/val/loss`, `metrics.val_loss`."""
UNFINISHED = ("running", "crashed", "failed", "killed", "preempted", "pending")
"""What a column `State` says of a run that has no final loss."""
UNITS = {"N": "parameters", "D": "tokens", "L": "loss, nats/token", "C": "FLOPs"}


@dataclass(frozen=True)
class RunTable:
    """Runs read from `path`, each once; `notes` say which of its runs were left out when it was read.

    `columns` maps N, D, L, C to the file's own names; `absent` are those of N and D that the file does not hold and
    the law does not use (they stand at 1, or so that C = 6 N D). `clusters` (n,) label dependent runs, None without;
    `recipes` are the labels of recipe 0 and 1. `cautions` is what the columns alone show.
    """

    path: str
    notes: tuple[str, ...]
    runs: Runs
    columns: dict[str, str]
    absent: tuple[str, ...]
    clusters: NDArray[np.int64] | None
    recipes: tuple[str, str] | None
    num_rows: int
    cautions: list[Caution]


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
    kept = _first_of_equals([*given.values(), *more.values()])
    runs = Runs.of(N[kept], D[kept], given["L"][kept], C[kept], columns={name: one[kept] for name, one in more.items()})
    as_given = Runs.of(given.get("N", N)[kept], given.get("D", D)[kept], runs.L, runs.C)
    cautions = table_cautions(as_given, {"N", "D", "C"} <= set(given), not absent, int((~kept).sum()))
    if len(form.levels) == 1:
        cautions = [caution for caution in cautions if caution.name != "narrow_ratio"]
    members = None if members is None else members[kept]
    cautions += _unfinished(sheet)
    return RunTable(sheet.name, sheet.notes, runs, columns, absent, members, recipes, len(sheet.frame), cautions)


def columns_of(sheet: Sheet, named: dict[str, str | None]) -> dict[str, str]:
    """Which of N, D, L, C is which column: the one that `named` names, or the one that has a usual name.

    Raises ValueError for a named column that is missing, and for a letter that several columns may be.
    """
    return {letter: found for letter in NAMES if (found := _column(sheet, letter, named.get(letter)))}


def _column(sheet: Sheet, letter: str, name: str | None) -> str | None:
    if name is not None:
        if name not in sheet.frame.columns:
            raise ValueError(f"{sheet.name}: --{letter}: no column {name!r}; {sheet.has()}")
        return name
    usual = [column for column in sheet.frame.columns if _plain(column) in NAMES[letter]]
    found = [column for column in usual if sheet.frame[column].null_count() < len(sheet.frame)] or usual
    if len(found) > 1:
        which = " and ".join(repr(column) for column in found)
        raise ValueError(f"{sheet.name}: {which} may each be {letter} ({UNITS[letter]}); choose one by --{letter}")
    return found[0] if found else None


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


def further_columns(sheet: Sheet, form: type[Law], recipe: str) -> dict[str, str]:
    """The columns that a law needs beside N and D, by the law's own name. Raises ValueError for one that is missing."""
    columns = {}
    for name in form.columns:
        wanted = recipe if name == "recipe" else name
        found = [column for column in sheet.frame.columns if column == wanted or _plain(column) == _plain(wanted)]
        if len(found) != 1:
            what = "several columns" if found else "no column"
            raise ValueError(f"{sheet.name}: {what} {wanted!r}; the law {form.name} needs it; {sheet.has()}")
        columns[name] = found[0]
    return columns


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


def _first_of_equals(columns: list[NDArray]) -> NDArray[np.bool_]:
    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    return frame.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()


def _unfinished(sheet: Sheet) -> list[Caution]:
    """A warning where a column `State`, as wandb exports it, says that runs among the rows never ended well."""
    found = []
    for column in (name for name in sheet.frame.columns if _plain(name) == "state"):
        states = [str(state).lower() for state in sheet.frame[column]]
        counts = {state: states.count(state) for state in UNFINISHED if state in states}
        if counts:
            told = ", ".join(f"{count} {state}" for state, count in counts.items())
            text = f"column {column!r} calls {told} of {len(states)} runs: leave them out by --where {column}=finished"
            found.append(Caution("unfinished_runs", text))
    return found


def _plain(name: str) -> str:
    tracked = TRACKED.fullmatch(name)
    return re.sub(r"[^a-z0-9]+", "_", (tracked["name"] if tracked else name).lower()).strip("_")
