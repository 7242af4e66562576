"""The page of one fitted table of runs: a single file that needs no network and no file beside it."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.reporting.environment import environment
from pipeline.reporting.fitted_table import fitted_table


def fit_page(title: str, result: dict[str, Any], points: pl.DataFrame) -> str:
    """The page as text: `title` says where the runs come from; `result` and `points` are those of a fit_table."""
    part = fitted_table(title, title, result, points)
    return environment(with_files=False).get_template("fit.html").render(part=part)
