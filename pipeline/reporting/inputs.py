"""The files that a report is made from, read once."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.plain import read_json
from pipeline.publishing.publication import Publication, read_publications

TELEMETRY = {
    "run_id": pl.String,
    "seconds": pl.Float64,
    "tokens": pl.Int64,
    "training_seconds": pl.Float64,
    "matrix_flops_per_second": pl.Float64,
    "tokens_per_second": pl.Float64,
    "device": pl.String,
}
WRONG_TYPE = (TypeError, OverflowError, pl.exceptions.PolarsError)
COVERAGE = {
    "law": pl.String,
    "estimator": pl.String,
    "num_runs": pl.Int64,
    "noise_sd": pl.Float64,
    "quantity": pl.String,
    "coverage": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "num_studies": pl.Int64,
}
"""Columns of benchmarks/results/coverage.csv; low and high are the 95 % Monte Carlo interval of the coverage."""


@dataclass(frozen=True)
class Inputs:
    """Everything a finished study left behind.

    `experiments` is results/findings.json by experiment; `tables` the fitted tables by experiment and name; `telemetry`
    has one row a run that was timed (seconds, tokens/s), none where nothing was; `coverage` one row a quantity of
    simulated studies, none where they were not run; `law_runs` the run ids of each law of learning mechanics, and
    `publications` what was published before, the oldest first. `external` and `external_points` are the fits of tables
    from elsewhere and their runs, by the name of the table.
    """

    runs: pl.DataFrame
    curves: pl.DataFrame
    planned: pl.DataFrame
    telemetry: pl.DataFrame
    experiments: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, pl.DataFrame]]
    manifest: dict[str, Any]
    coverage: pl.DataFrame
    law_runs: dict[str, list[str]]
    publications: list[Publication]
    external: dict[str, dict[str, Any]]
    external_points: dict[str, pl.DataFrame]


def read_inputs(root: Path) -> Inputs:
    """The inputs of the study in `root`. Raises ValueError naming the file that cannot be read."""
    findings = _json(root / "results/findings.json")
    experiments, external = findings["experiments"], findings.get("external", {})
    return Inputs(
        runs=read_parquet(root / "results/runs.parquet"),
        curves=read_parquet(root / "results/curves.parquet"),
        planned=read_parquet(root / "plan/runs.parquet"),
        telemetry=_telemetry(root / "telemetry"),
        experiments=experiments,
        tables={name: read_tables(root / "results/fit" / name) for name in experiments},
        manifest=_json(root / "data/tokens/manifest.json"),
        coverage=_coverage(root / "benchmarks/results/coverage.csv"),
        law_runs={
            path.parent.name: read_parquet(path)["run_id"].to_list()
            for path in sorted((root / "results/laws").glob("*/runs.parquet"))
        },
        publications=read_publications(root),
        external=external,
        external_points={name: read_tables(root / "results/fit/external" / name)["points"] for name in external},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the stages before the report") from None


def read_parquet(path: Path) -> pl.DataFrame:
    """The table in the file `path`. Raises ValueError naming it where there is none."""
    try:
        return pl.read_parquet(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the stages before the report") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(f"{path}: not parquet: {' '.join(str(error).split())}") from None


def read_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """The csv tables of a folder by name; an empty file of a table without rows keeps its columns."""
    return {path.stem: pl.read_csv(path, infer_schema_length=None) for path in sorted(folder.glob("*.csv"))}


def _telemetry(folder: Path) -> pl.DataFrame:
    names = (
        sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".json")) if folder.is_dir() else []
    )
    records = _records([f"{folder}/{name}" for name in names])
    for name, record in zip(names, records, strict=True):
        if not isinstance(record, dict) or "run_id" not in record:
            raise ValueError(f"{folder / name}: run_id: missing")
    columns = {column: [record.get(column) for record in records] for column in TELEMETRY}
    try:
        return pl.DataFrame(columns, schema=TELEMETRY).sort("run_id")
    except WRONG_TYPE:
        pass
    for name, record in zip(names, records, strict=True):
        for column, kind in TELEMETRY.items():
            try:
                pl.Series([record.get(column)], dtype=kind)
            except WRONG_TYPE:
                value = record[column]
                raise ValueError(
                    f"{folder / name}: {column}: {value!r} is no {kind}; delete it, no result depends on it"
                ) from None
    raise AssertionError("columns that fit one by one fit together")


def _records(paths: list[str]) -> list[dict[str, Any]]:
    """The JSON object of each file; many small ones are read and parsed as one text, unless one of them is broken."""
    texts = []
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            texts.append(os.read(descriptor, os.fstat(descriptor).st_size))
        finally:
            os.close(descriptor)
    try:
        records = json.loads(b"[" + b",".join(texts) + b"]")
    except ValueError:
        records = []
    return records if len(records) == len(paths) else [_json(Path(path)) for path in paths]


def _coverage(path: Path) -> pl.DataFrame:
    if not path.exists():
        return pl.DataFrame(schema=COVERAGE)
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.ComputeError, pl.exceptions.NoDataError) as error:
        raise ValueError(f"{path}: not csv: {error}") from None
    missing = [column for column in COVERAGE if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: {missing[0]}: no such column")
    try:
        numbers = {column: pl.Float64 for column, kind in COVERAGE.items() if kind != pl.String}
        return table.select(list(COVERAGE)).cast(numbers).cast(COVERAGE)
    except pl.exceptions.InvalidOperationError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
