"""Which column of a user's table is which letter, by the names that are usual."""

from __future__ import annotations

import re

import polars as pl

from pipeline.external.table_file import Sheet
from pipeline.fitting.laws import Law

NAMES = {
    letter: frozenset(names.split())
    for letter, names in {
        "N": "params parameters num_params num_parameters n_params n_parameters nparams param_count parameter_count "
        "model_size model_params n_total n_non_embedding n_with_head non_embedding_params non_embedding_parameters",
        "D": "tokens training_tokens train_tokens num_tokens n_tokens tokens_seen total_tokens dataset_size "
        "dataset_tokens num_train_tokens train_num_input_tokens_seen",
        "L": "loss val_loss validation_loss valid_loss eval_loss test_loss final_loss final_val_loss "
        "final_validation_loss final_valid_loss final_eval_loss final_test_loss",
        "C": "flop flops training_flop training_flops train_flop train_flops total_flops total_flos train_total_flos "
        "flops_budget compute training_compute",
    }.items()
}
"""Usual names of each column beside its letter, in lower case with underscores."""
WORDS = {"N": ("param", "model_size"), "D": ("token",), "L": ("loss",), "C": ("flop", "compute")}
"""What a name holds that speaks of the letter: with one in the table a lower-case `n`, `d`, `l` or `c` is not meant."""
TRACKED = re.compile(r"(config|summary|params|metrics)[/.](?P<name>.+?)(/value)?")
"""Names as trackers export them: `config/n_params`, `summary/val/loss`, `metrics.val_loss`."""
UNITS = {"N": "parameters", "D": "tokens", "L": "loss, nats/token", "C": "FLOPs"}


def columns_of(sheet: Sheet, named: dict[str, str | None]) -> dict[str, str]:
    """Which of N, D, L, C is which column: the one that `named` names, or the one that has a usual name.

    A lower-case single letter, which is as often a width, a depth or the number of a row, is the last choice: only
    where no other column speaks of the same thing, and for D not where N and C are known and give it. Raises
    ValueError for a named column that is missing, and for a letter that several columns may be.
    """
    found = {letter: _column(sheet, letter, named.get(letter)) for letter in NAMES}
    known = {letter for letter, column in found.items() if column}
    for letter in NAMES:
        if letter not in known and not (letter == "D" and known >= {"N", "C"}):
            found[letter] = _small_letter(sheet, letter)
    return {letter: column for letter, column in found.items() if column}


def further_columns(sheet: Sheet, form: type[Law], recipe: str) -> dict[str, str]:
    """The columns that a law needs beside N and D, by the law's own name. Raises ValueError for one that is missing."""
    columns = {}
    for name in form.columns:
        wanted = recipe if name == "recipe" else name
        found = [
            column for column in sheet.frame.columns if column == wanted or plain_name(column) == plain_name(wanted)
        ]
        if len(found) != 1:
            what = "several columns" if found else "no column"
            raise ValueError(f"{sheet.name}: {what} {wanted!r}; the law {form.name} needs it; {sheet.has()}")
        columns[name] = found[0]
    return columns


def plain_name(name: str) -> str:
    """A column's name without a tracker's prefix, in lower case with underscores."""
    return re.sub(r"[^a-z0-9]+", "_", _untracked(name).lower()).strip("_")


def _column(sheet: Sheet, letter: str, name: str | None) -> str | None:
    if name is not None:
        if name not in sheet.frame.columns:
            raise ValueError(f"{sheet.name}: --{letter}: no column {name!r}; {sheet.has()}")
        return name
    columns = sheet.frame.columns
    usual = [column for column in columns if _untracked(column) == letter or plain_name(column) in NAMES[letter]]
    return _only(sheet, letter, usual)


def _small_letter(sheet: Sheet, letter: str) -> str | None:
    """The column called by the letter in lower case, None where another column speaks of the same thing."""
    if any(word in plain_name(column) for column in sheet.frame.columns for word in WORDS[letter]):
        return None
    return _only(sheet, letter, [column for column in sheet.frame.columns if _untracked(column) == letter.lower()])


def _only(sheet: Sheet, letter: str, usual: list[str]) -> str | None:
    """The one of these columns that holds a number. Raises ValueError where several do."""
    numbers = {column: sheet.frame[column].cast(pl.Float64, strict=False) for column in usual}
    found = [column for column, values in numbers.items() if values.null_count() < len(values)] or usual
    if len(found) > 1:
        which = " and ".join(repr(column) for column in found)
        raise ValueError(f"{sheet.name}: {which} may each be {letter} ({UNITS[letter]}); choose one by --{letter}")
    return found[0] if found else None


def _untracked(name: str) -> str:
    tracked = TRACKED.fullmatch(name)
    return (tracked["name"] if tracked else name).strip()
