"""Runs from elsewhere beside a study, `collect.external` in params.yaml: collected as results/external/.

They are collected, fitted and reported each by itself; the study's own law never sees them, since their losses are of
another corpus and tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.external.choice import form_of, law_key
from pipeline.external.columns import columns_of, further_columns
from pipeline.external.entry import as_fields
from pipeline.external.read_runs import read_runs
from pipeline.external.table_file import Sheet, labels, numbers, read_sheet
from pipeline.external.where import Condition, chosen
from pipeline.params import External

FOLDER = "external"
"""In results/ and in results/fit/; also the key in findings.json."""
SOURCES = "sources.json"
COLUMNS = {"N": "N", "D": "D", "C": "C", "L": "loss"}
"""Letter -> its column in results/external/<name>.parquet, beside name, role, row, copy and what the law needs."""


def collect_external(entries: Sequence[External], results: Path) -> list[str]:
    """Writes external/<name>.parquet of each table into the folder `results`, and sources.json; returns a line each.

    Rows keep the order and the number that they have in the table. Raises ValueError naming the entry of params.yaml,
    the table, the column and the value.
    """
    folder, said, sources = results / FOLDER, [], []
    frames: dict[str, pl.DataFrame] = {}
    for place, entry in enumerate(entries):
        try:
            sheet = chosen(read_sheet(entry.path), [Condition.parse(text) for text in entry.where])
            frames[entry.name] = _canonical(sheet, entry)
        except ValueError as error:
            raise ValueError(f"params.yaml: collect.external.{place} ({entry.name}): {as_fields(error)}") from None
        sources.append({"name": entry.name, "path": entry.path, "notes": list(sheet.notes)})
        said.append(f"external: {entry.name}: {len(sheet.frame)} rows of {'; '.join((entry.path, *sheet.notes))}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    (folder / SOURCES).write_text(json.dumps(sources, indent=2) + "\n", encoding="utf-8")
    return said


def _canonical(sheet: Sheet, entry: External) -> pl.DataFrame:
    """The rows under the names of COLUMNS, those that are given, with what the law needs beside them.

    `copy` marks rows that repeat another in every column of their table, of which some are left behind here.
    """
    form = form_of(law_key(entry.law))
    named = entry.columns.model_dump()
    read = read_runs(sheet, form, named, recipe=entry.recipe)
    given = columns_of(sheet, named)
    more = further_columns(sheet, form, entry.recipe)
    columns: dict[str, Any] = {
        "name": [entry.name] * len(sheet.frame),
        "role": ["external"] * len(sheet.frame),
        "row": np.asarray(sheet.rows, np.int64),
        "copy": read.copies,
    }
    columns |= {COLUMNS[letter]: numbers(sheet, given[letter]) for letter in COLUMNS if letter in given}
    for name, column in more.items():
        columns[name] = labels(sheet, column) if name == "recipe" else numbers(sheet, column)
    return pl.DataFrame(columns)
