"""What the runs from elsewhere beside a study say, each table by its own law."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline.external.collect import FOLDER, SOURCES
from pipeline.external.entry import choice_of
from pipeline.external.fit_table import Fitted, fit_table, quantities
from pipeline.external.table_file import Sheet
from pipeline.params import External, Fit
from pipeline.results import write_findings

UNTOLD = ("table", "columns", "draws", "predictor", "compared")
"""Of a fit's result, what findings.json does not repeat."""


def judge_external(entries: Sequence[External], fit: Fit, results: Path) -> None:
    """Writes what the collected tables say, each by its own law: findings.json and fit/external/<name>/*.csv."""
    shutil.rmtree(results / "fit" / FOLDER, ignore_errors=True)
    said = {}
    sources = {one["name"]: one for one in json.loads((results / FOLDER / SOURCES).read_text(encoding="utf-8"))}
    for entry in entries:
        frame = pl.read_parquet(results / FOLDER / f"{entry.name}.parquet")
        row, copies = (frame[name].to_numpy() for name in ("row", "copy"))
        sheet = Sheet(entry.path, frame, row, tuple(sources[entry.name]["notes"]), copies)
        fitted = fit_table(sheet, choice_of(entry, fit))
        said[entry.name] = {key: value for key, value in fitted.result.items() if key not in UNTOLD}
        said[entry.name]["path"] = entry.path
        folder = results / "fit" / FOLDER / entry.name
        folder.mkdir(parents=True)
        for name, table in _tables(fitted).items():
            table.write_csv(folder / f"{name}.csv")
    write_findings(results, external=said)


def _tables(fitted: Fitted) -> dict[str, pl.DataFrame]:
    """The csv tables of a fit: its points, its parameters, and where there are any its minima and published numbers."""
    result = fitted.result
    rows = [
        {"parameter": name, "value": value, "standard_error": error, "low": low, "high": high}
        for name, (value, error, interval) in quantities(result).items()
        for low, high in [interval or (None, None)]
    ]
    kinds = dict.fromkeys(("value", "standard_error", "low", "high"), pl.Float64)
    tables = {"points": fitted.points, "parameters": pl.DataFrame(rows, schema={"parameter": pl.String} | kinds)}
    if result["minima"]:
        tables["minima"] = pl.DataFrame(result["minima"], infer_schema_length=None)
    return tables
