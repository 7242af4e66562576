"""The 240 runs that the benchmarks fit: the published ones where they are on this machine, simulated ones elsewhere."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = "STUDY_PUBLISHED_DATA"
"""Environment variable that names the folder of FILE."""
FILE = "chinchilla_epoch_2024.csv"
NUM_DROPPED = 5
"""Runs of highest loss that arXiv 2404.10102 leaves out."""
SIMULATED_LAW = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
"""The law printed in arXiv 2404.10102, section 3; E in nats/token."""
SIMULATED_NOISE = 0.006
"""Standard deviation of ln L around the law."""
SIMULATED_SEED = 0


@dataclass(frozen=True)
class Runs:
    """Runs of N parameters on D tokens with loss L in nats/token, and where they come from."""

    N: NDArray[np.float64]
    D: NDArray[np.float64]
    L: NDArray[np.float64]
    origin: str
    published: bool

    def __len__(self) -> int:
        return len(self.N)


def chinchilla_runs() -> Runs:
    """The published 240 runs of arXiv 2404.10102 if FOLDER holds them, else 240 simulated ones."""
    folder = os.environ.get(FOLDER)
    path = Path(folder, FILE) if folder else None
    return published_runs(path) if path and path.exists() else simulated_runs()


def published_runs(path: Path) -> Runs:
    """The runs read off Hoffmann et al.'s figure (arXiv 2404.10102), less the highest losses; D = C / (6 N)."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    N, C, L = (np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss"))
    kept = np.sort(np.argsort(L, kind="stable")[:-NUM_DROPPED])
    origin = f"published: {FILE}, the {NUM_DROPPED} highest of {len(rows)} losses dropped (arXiv 2404.10102)"
    return Runs(N[kept], C[kept] / (6 * N[kept]), L[kept], origin, published=True)


def simulated_runs(num_runs: int = 240) -> Runs:
    """Runs of SIMULATED_LAW with normal noise in ln L, N and D / N log-uniform over the published ranges."""
    random = np.random.default_rng(SIMULATED_SEED)
    N = np.exp(random.uniform(np.log(5e7), np.log(1.6e10), num_runs))
    D = N * np.exp(random.uniform(np.log(1.0), np.log(500.0), num_runs))
    law = SIMULATED_LAW
    L = law["E"] + law["A"] / N ** law["alpha"] + law["B"] / D ** law["beta"]
    L = L * np.exp(random.normal(0.0, SIMULATED_NOISE, num_runs))
    stated = ", ".join(f"{name} {value:g}" for name, value in law.items())
    origin = f"simulated (${FOLDER}/{FILE} is absent): {stated}, sd of ln L {SIMULATED_NOISE:g}, seed {SIMULATED_SEED}"
    return Runs(N, D, L, origin, published=False)
