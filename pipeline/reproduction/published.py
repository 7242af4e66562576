"""What a study has published of its runs: the tables in results/, and the records where they are at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.planning.run_spec import SETTLED, RunSpec
from pipeline.results import collect_study

PLACES = {LANGUAGE_MODEL: "results"}
"""Folder of the two tables of an experiment, where it is not results/laws/<experiment>."""

RECORD = "its record in runs/"


@dataclass(frozen=True)
class Tables:
    """The runs and curves of one experiment, and where each of the two comes from, in words."""

    runs_place: str
    curves_place: str
    runs: pl.DataFrame
    curves: pl.DataFrame

    def row(self, run_id: str) -> dict:
        """The row of a run, empty where there is none. Raises ValueError where there are two."""
        rows = self.runs.filter(pl.col("run_id") == run_id)
        if len(rows) > 1:
            raise ValueError(f"{self.runs_place}: run_id: {run_id} appears {len(rows)} times")
        return rows.to_dicts()[0] if len(rows) else {}

    def curve(self, run_id: str) -> pl.DataFrame:
        """The curve of a run: its columns that hold values, by name."""
        rows = self.curves.filter(pl.col("run_id") == run_id).drop("run_id")
        return rows.select(sorted(column.name for column in rows if column.null_count() < len(rows)))

    def settled(self) -> list[str]:
        """The ids of the runs that ended with a result, in the order of the table."""
        return self.runs.filter(pl.col("status").is_in(SETTLED))["run_id"].to_list()


def published_tables(root: Path) -> dict[str, Tables]:
    """The tables in results/ of the study in `root`, by experiment. Raises ValueError where there are none."""
    laws = sorted(path.name for path in (root / "results/laws").glob("*") if path.is_dir())
    return {name: _tables(root, PLACES.get(name, f"results/laws/{name}")) for name in (LANGUAGE_MODEL, *laws)}


def recorded_tables(plan: pl.DataFrame, specs: list[RunSpec], store: RunStore, folder: Path) -> dict[str, Tables]:
    """The same tables, made in the empty `folder` from the records that `store` holds of the runs `specs`.

    `plan` has the rows of plan/runs.parquet.
    """
    chosen = plan.filter(pl.col("run_id").is_in([spec.run_id for spec in specs]))
    folder.mkdir()
    collect_study(chosen, [spec for spec in specs if spec.experiment != LANGUAGE_MODEL], store, folder / "results")
    found = published_tables(folder)
    return {name: replace(tables, runs_place=RECORD, curves_place=RECORD) for name, tables in found.items()}


def _tables(root: Path, place: str) -> Tables:
    found = []
    for name in ("runs", "curves"):
        path = root / place / f"{name}.parquet"
        try:
            found.append(pl.read_parquet(path))
        except FileNotFoundError:
            raise ValueError(f"{place}/{name}.parquet: no such file; there is no finished study here") from None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise ValueError(f"{place}/{name}.parquet: not a parquet file ({' '.join(str(error).split())})") from None
    return Tables(f"{place}/runs.parquet", f"{place}/curves.parquet", *found)
