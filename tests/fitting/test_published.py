"""Proves fits of published runs against published estimates: Chinchilla (arXiv 2404.10102), Gadre (2403.08540).

The data are the authors'; the folder with their csv files is named by STUDY_PUBLISHED_DATA.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.fitting.estimators import L1, L2, L2_LINEAR, Huber
from pipeline.fitting.laws import Chinchilla, OverTraining
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import bootstrap


def rows_of(name: str) -> list[dict[str, str]]:
    folder = os.environ.get("STUDY_PUBLISHED_DATA")
    if not folder or not (path := Path(folder) / name).exists():
        pytest.skip(f"STUDY_PUBLISHED_DATA names no folder with {name}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def chinchilla(num_runs: int = 240):
    rows = rows_of("chinchilla_epoch_2024.csv")
    N, C, L = (np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss"))
    kept = np.sort(np.argsort(L)[:num_runs])
    return N[kept], (C / (6 * N))[kept], L[kept]


@pytest.mark.parametrize(
    ("num_runs", "estimator", "objective", "A", "B", "E", "alpha", "beta"),
    [
        (240, Huber(1e-3), 0.0010182740178006, 477.825868, 2143.417363, 1.8172181, 0.3473104989, 0.3671724326),
        (240, L2, 0.011461886991698679, 593.3221016, 4875.637807, 1.8645500953, 0.3602527982, 0.4058833619),
        (245, Huber(1e-3), 0.001826010523069, 495.726009, 12845.61327, 1.891338499, 0.3493128937, 0.4530492956),
    ],
)
def test_chinchilla(num_runs, estimator, objective, A, B, E, alpha, beta):
    found = fit(Chinchilla, *chinchilla(num_runs), estimator)
    assert found.status == "converged"
    assert found.agreeing_starts == found.num_starts
    assert found.objective == pytest.approx(objective, rel=1e-10)
    for name, value in {"A": A, "B": B, "E": E, "alpha": alpha, "beta": beta}.items():
        assert getattr(found.law, name) == pytest.approx(value, rel=1e-6), name


def test_chinchilla_by_least_absolute_deviations():
    """The published L1 minimum, 1.1294946585, lies 4e-9 above the true one; its parameters agree to 1e-6."""
    found = fit(Chinchilla, *chinchilla(), L1)
    assert found.objective <= 1.1294946585
    assert found.objective == pytest.approx(1.1294946585, rel=1e-8)
    expected = {"A": 482.005718, "B": 2085.434203, "E": 1.81686404, "alpha": 0.3478130291, "beta": 0.3658541174}
    for name, value in expected.items():
        assert getattr(found.law, name) == pytest.approx(value, rel=1e-6), name


def test_chinchilla_standard_errors_of_4000_resamples():
    """Published with seed 42: the same resamples are drawn, so the errors agree far below their Monte Carlo noise."""
    N, D, L = chinchilla()
    draws = bootstrap(fit(Chinchilla, N, D, L, Huber(1e-3)), np.arange(len(N)), 4000, 42)
    assert draws.unreached == 0
    published = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
    for name, error in draws.standard_errors().items():
        assert error == pytest.approx(published[name], rel=1e-3), name


@pytest.mark.parametrize(
    ("train_set", "a", "b", "c", "E"),
    [
        ("c4_original", 113.69, 189.52, -0.24247, 1.50826),
        ("rpj", 166.21, 366.69, -0.27285, 1.83665),
        ("rw_original", 125.10, 246.21, -0.25439, 1.73446),
    ],
)
def test_gadre(train_set, a, b, c, E):
    rows = [
        row
        for row in rows_of("gadre_2024_overtraining_runs.csv")
        if row["train_set"] == train_set and row["val_set"] == "c4_val"
    ]
    N, D, L, ratio = (
        np.array([float(row[name]) for row in rows])
        for name in ("params", "tokens", "loss", "tokens_per_param_over_20")
    )
    smallest = np.unique(N[np.isclose(ratio, 1)])[:4]
    kept = (np.isclose(ratio, 1) & np.isin(N, smallest)) | (np.isclose(ratio, 16) & (N == smallest[0]))
    assert kept.sum() == 5
    found = fit(OverTraining, N[kept], D[kept], L[kept], L2_LINEAR).law
    for name, value in {"a": a, "b": b, "c": c, "E": E}.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-4), name
    if train_set == "rpj":
        far = {}
        for label, chosen in (("1.4B, M = 640", np.isclose(ratio, 32)), ("6.9B, M = 20", np.isclose(ratio, 1))):
            run = np.flatnonzero(chosen)[np.argmax(N[chosen])]
            far[label] = abs(found.loss(N[run], D[run]) / L[run] - 1)
        assert 100 * far["1.4B, M = 640"] == pytest.approx(0.71, abs=0.01)
        assert 100 * far["6.9B, M = 20"] == pytest.approx(0.73, abs=0.01)
