"""What one MLflow run says, as values: nothing here knows MLflow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl


@dataclass(frozen=True)
class Dataset:
    """A corpus: its digest, where it came from and what it holds, as JSON."""

    name: str
    digest: str
    source: str
    profile: str


@dataclass(frozen=True)
class Record:
    """The content of one MLflow run.

    It is searched by the tags `identity`, and up to date when its tags hold `hashes` (DVC's). `metrics` are measured
    at `step`; `curves` has the columns step, then one a metric. `artifacts` are (file or folder, folder in MLflow).
    `began` and `ended` are milliseconds since 1970, None where nobody knows. `unique`: an older version is replaced.
    `of_law`: it belongs among the runs of the laws of learning mechanics. `note` is the description that people read,
    `source` the module that made it.
    """

    name: str
    identity: dict[str, str]
    hashes: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    curves: pl.DataFrame = field(default_factory=pl.DataFrame)
    artifacts: tuple[tuple[Path, str], ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    dataset: Dataset | None = None
    began: int | None = None
    ended: int | None = None
    succeeded: bool = True
    unique: bool = False
    of_law: bool = False
    note: str = ""
    source: str = "stages/train.py"


def texts(values: dict) -> dict[str, str]:
    """The values as text, which MLflow holds as params."""
    return {name: str(value) for name, value in values.items()}
