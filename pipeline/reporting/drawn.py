"""Laws' figures as they were drawn before, for as long as nothing that they are drawn from changes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.experiments.experiment import LANGUAGE_MODEL, reads
from pipeline.planning.run_spec import digest
from pipeline.reporting.chapter import Figure
from pipeline.reporting.law_parts import draw_law

CODE = Path(__file__).resolve().parents[1]
LIBRARIES = ("matplotlib", "numpy", "polars")
FIGURES = "figures.json"


class Drawn:
    """Figures kept in scratch/drawn of the study in `root`, a folder a law.

    A new token count of the scaling study changes hardly any law, and drawing them all takes three seconds. A folder is
    named after a digest of all that its figures are drawn from: the law's findings, tables and runs, the code of the
    whole pipeline, and the versions of LIBRARIES.
    """

    def __init__(self, root: Path):
        self.results, self.folder = root / "results", root / "scratch/drawn"

    def figures(self, name: str, judged: Mapping[str, Any], tables: dict[str, pl.DataFrame]) -> Sequence[Figure]:
        """The figures of the law `name`, as by `draw_law`."""
        folder = self.folder / f"{name}-{self._digest(name, judged)}"
        if folder.exists():
            return _read(folder)
        drawn = draw_law(name, judged["summary"], tables, self.results)
        self.folder.mkdir(parents=True, exist_ok=True)
        for older in self.folder.glob(f"{name}-*"):
            shutil.rmtree(older)
        partial = folder.with_suffix(".partial")
        _write(partial, drawn)
        partial.rename(folder)
        return drawn

    def _digest(self, name: str, judged: Mapping[str, Any]) -> str:
        runs = self.results if reads(name) == LANGUAGE_MODEL else self.results / "laws" / name
        files = (runs / "runs.parquet", runs / "curves.parquet", *(self.results / "fit" / name).iterdir())
        return digest([self._code, judged, {path.name: _sha256(path) for path in files}])[:32]

    @cached_property
    def _code(self) -> dict[str, str]:
        sources = {str(path.relative_to(CODE)): _sha256(path) for path in CODE.rglob("*.py")}
        return sources | {library: version(library) for library in LIBRARIES}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(folder: Path, figures: Sequence[Figure]) -> None:
    """One JSON file of everything but the tables, which are parquet."""
    folder.mkdir()
    for figure in figures:
        figure.table.write_parquet(folder / f"{figure.name}.parquet")
    words = [field.name for field in fields(Figure) if field.name != "table"]
    values = [{name: getattr(figure, name) for name in words} for figure in figures]
    (folder / FIGURES).write_text(json.dumps(values), encoding="utf-8")


def _read(folder: Path) -> list[Figure]:
    values = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    return [Figure(**value, table=pl.read_parquet(folder / f"{value['name']}.parquet")) for value in values]
