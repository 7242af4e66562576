"""Rows of a csv, tsv, jsonl (each plain, .gz or .zst) or parquet file, local or behind a URI, or of MLflow."""

from __future__ import annotations

import io
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
import polars as pl
import zstandard
from numpy.typing import NDArray

from pipeline.corpus.sources import one_line

KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
PACKED = (".gz", ".zst")
MLFLOW = "mlflow:"
"""What a source begins with that is the name of an MLflow experiment."""


@dataclass(frozen=True)
class Sheet:
    """Rows of a source that is called `name` in every message.

    `rows` (n,) are their numbers in the source, from 1 on; `notes` say which runs of the source are not among them.
    `copies` (n,) marks rows known to repeat another one, None where the columns say which do.
    """

    name: str
    frame: pl.DataFrame
    rows: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    copies: NDArray[np.bool_] | None = None

    def has(self) -> str:
        """The columns, as a message tells them."""
        shown = ", ".join(self.frame.columns[:12])
        return f"the table has {shown}" + (", ..." if len(self.frame.columns) > 12 else "")


def read_sheet(source: str) -> Sheet:
    """The rows of a file, or of the MLflow experiment EXPERIMENT where `source` is mlflow:EXPERIMENT.

    MLflow is asked at MLFLOW_TRACKING_URI, by default mlflow.db in the working directory. Raises ValueError naming the
    source, and the line where there is one, for what is no table.
    """
    if not source.startswith(MLFLOW):
        frame = read_table(source)
        shown = os.fsencode(source).decode(errors="backslashreplace")  # a file's name may be no UTF-8
        return Sheet(shown, frame, np.arange(1, len(frame) + 1))
    from pipeline.tracking.store import finished_runs, tracking_uri

    frame, others = finished_runs(tracking_uri(Path.cwd()), source.removeprefix(MLFLOW))
    told = ", ".join(f"{count} {status}" for status, count in others.items())
    notes = (f"{told}: runs of {source} that have not finished are left out",) if others else ()
    if not len(frame):
        raise ValueError(f"{source}: no finished run" + (f" ({told})" if told else ""))
    return Sheet(source, frame, np.arange(1, len(frame) + 1), notes)


def read_table(path: str) -> pl.DataFrame:
    """The columns of the file at `path`; those of text files are all strings, so that no value is guessed.

    Nested objects of jsonl are columns of their own, `config/depth`. Raises ValueError naming the file, and the line
    where there is one, for what is no such table.
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    kind = KINDS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise ValueError(f"{path}: unknown kind of file; one of {', '.join(KINDS)} is wanted (text also .gz or .zst)")
    content = _content(path)
    try:
        if kind == "parquet":
            table = pl.read_parquet(io.BytesIO(content))
        elif kind == "jsonl":
            table = _from_lines(path, content)
        else:
            table = _from_cells(path, content, "\t" if kind == "tsv" else ",")
    except pl.exceptions.NoDataError:
        raise ValueError(f"{path}: the table is empty") from None
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: cannot be read as {kind}: {str(error).splitlines()[0]}") from None
    if not len(table):
        raise ValueError(f"{path}: the table has no rows")
    return table


def numbers(sheet: Sheet, column: str) -> NDArray[np.float64]:
    """A column as finite positive numbers, shape (n,). Raises ValueError naming the first row that is not one."""
    given = sheet.frame[column]
    if given.dtype == pl.String:
        values = given.str.strip_chars().cast(pl.Float64, strict=False)
    elif given.dtype.is_numeric() or given.dtype == pl.Null:
        values = given.cast(pl.Float64)
    else:
        raise ValueError(f"{sheet.name}: column {column!r} holds {given.dtype}, not numbers")
    found = values.to_numpy()
    wrong = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(wrong):
        raise ValueError(f"{_place(sheet, wrong, column)} {_told(given[int(wrong[0])])}")
    return found


def labels(sheet: Sheet, column: str) -> list[str]:
    """A column as labels, one a row. Raises ValueError naming the first row that has none."""
    given = sheet.frame[column]
    if given.dtype.is_nested():
        raise ValueError(f"{sheet.name}: column {column!r} holds {given.dtype}, not labels")
    found = given.cast(pl.String)
    wrong = np.flatnonzero(found.is_null().to_numpy())
    if len(wrong):
        raise ValueError(f"{_place(sheet, wrong, column)} is missing")
    return found.to_list()


def _place(sheet: Sheet, wrong: NDArray, column: str) -> str:
    more = f" (first of {len(wrong)})" if len(wrong) > 1 else ""
    return f"{sheet.name}: row {sheet.rows[wrong[0]]}{more}: column {column!r}:"


def _told(value: object) -> str:
    if value is None or value == "":
        return "the value is missing"
    return f"{value!r} is not a finite positive number"


def _content(path: str) -> bytes:
    try:
        with fsspec.open(path, "rb", compression="infer") as file:
            return file.read()
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(f"{path}: cannot be unpacked: {error}") from None
    except Exception as error:
        if "://" in path:  # the client of a storage may raise anything, and that of http tells the address alone
            cause = error.__cause__ if str(error) == path and isinstance(error.__cause__, Exception) else error
            raise ValueError(f"{path}: cannot be read: {one_line(cause)}") from None
        if isinstance(error, OSError):
            raise ValueError(f"{path}: {error.strerror or error}") from None
        raise


def _from_cells(path: str, content: bytes, separator: str) -> pl.DataFrame:
    table = pl.read_csv(io.BytesIO(content.rstrip()), infer_schema=False, separator=separator)
    head = pl.read_csv(io.BytesIO(content), infer_schema=False, separator=separator, has_header=False, n_rows=1).row(0)
    for name in filter(None, head):  # Polars gives a second column of a name another one
        if head.count(name) > 1:
            raise ValueError(f"{path}: {head.count(name)} columns are called {name!r}")
    return table


def _from_lines(path: str, content: bytes) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number}: {type(row).__name__}, not an object of columns")
        rows.append(_flat(row))
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [None if (value := row.get(name)) is None else str(value) for row in rows] for name in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def _flat(row: dict, prefix: str = "") -> dict:
    leaves = {}
    for name, value in row.items():
        leaves |= _flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves
