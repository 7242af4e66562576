"""Laws' parts of the page as they were drawn before, for as long as nothing that they are drawn from changes."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.experiments.experiment import LANGUAGE_MODEL, reads
from pipeline.reporting.law_parts import LawPart, law_part

CODE = Path(__file__).resolve().parents[1]
LIBRARIES = ("matplotlib", "numpy", "polars")


class Drawn:
    """Parts kept in scratch/drawn of the study in `root`, one a law.

    A new token count of the scaling study changes hardly any law, and drawing them all takes three seconds. What is
    kept is named after a digest of all that a part is made from: its findings, its tables, its runs, the code of the
    whole pipeline, and the versions of LIBRARIES.
    """

    def __init__(self, root: Path):
        self.results, self.folder = root / "results", root / "scratch/drawn"

    def part(self, name: str, judged: Mapping[str, Any], tables: dict[str, pl.DataFrame]) -> LawPart:
        """The part of the law `name`, as by `law_part`."""
        path = self.folder / f"{name}-{self._digest(name, judged)}.pickle"
        if path.exists():
            return pickle.loads(path.read_bytes())
        part = law_part(name, judged, tables, self.results)
        self.folder.mkdir(parents=True, exist_ok=True)
        for older in self.folder.glob(f"{name}-*"):
            older.unlink()
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            file.write(pickle.dumps(part))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        return part

    def _digest(self, name: str, judged: Mapping[str, Any]) -> str:
        total = hashlib.sha256(self._code)
        total.update(json.dumps(judged, sort_keys=True).encode())
        runs = self.results if reads(name) == LANGUAGE_MODEL else self.results / "laws" / name
        for path in (runs / "runs.parquet", runs / "curves.parquet", *sorted((self.results / "fit" / name).iterdir())):
            total.update(_sealed(path.name, path.read_bytes()))
        return total.hexdigest()[:32]

    @cached_property
    def _code(self) -> bytes:
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        for library in LIBRARIES:
            yield _sealed(library, version(library).encode())
        for path in sorted(CODE.rglob("*.py")):
            yield _sealed(str(path.relative_to(CODE)), path.read_bytes())


def _sealed(name: str, data: bytes) -> bytes:
    return f"{name}\0{hashlib.sha256(data).hexdigest()}\0".encode()
