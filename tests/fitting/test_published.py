"""Proves the least-squares row of the published Chinchilla data (arXiv 2404.10102, 240 points) to printed digits.

The data are the authors'; the folder with chinchilla_epoch_2024.csv is named by STUDY_PUBLISHED_DATA.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.fitting.forms import Additive
from pipeline.fitting.solver import fit


@pytest.fixture
def chinchilla():
    folder = os.environ.get("STUDY_PUBLISHED_DATA")
    if not folder or not (path := Path(folder) / "chinchilla_epoch_2024.csv").exists():
        pytest.skip("STUDY_PUBLISHED_DATA names no folder with chinchilla_epoch_2024.csv (arXiv 2404.10102)")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    N, C, L = (np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss"))
    kept = np.sort(np.argsort(L)[:240])
    return N[kept], (C / (6 * N))[kept], L[kept]


def test_least_squares_on_240_points(chinchilla):
    found = fit(Additive, *chinchilla)
    assert found.status == "converged"
    assert found.objective == pytest.approx(0.011461886991698679, rel=1e-10)
    expected = {"A": 593.3221016, "B": 4875.637807, "E": 1.8645500953, "alpha": 0.3602527982, "beta": 0.4058833619}
    for name, value in expected.items():
        assert getattr(found.law, name) == pytest.approx(value, rel=1e-6), name
