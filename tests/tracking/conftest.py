"""A small study on disk, written by the real planner, run store and collector, with runs whose values are known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import CorpusFacts, RunResult
from pipeline.experiments.language_model.plan import describe, plan
from pipeline.external.collect import collect_external
from pipeline.params import read_params
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import plan_table
from pipeline.results import collect, collect_laws
from tests.small_study import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
NUM_ROWS = 700
EXTERNAL = {
    "theirs": {
        "law": "chinchilla",
        "estimator": "L2",
        "status": "converged",
        "num_runs": 240,
        "params": {"alpha": 0.35},
        "intervals": {"alpha": [0.3, 0.4]},
        "warnings": [],
    }
}
FINDINGS = {
    "language_model": {
        "summary": {
            "chosen": "additive",
            "num_points": 2,
            "seed_noise": None,
            "laws": {
                "additive": {
                    "params": {"E": 0.9, "alpha": 0.4},
                    "standard_errors": {"E": 0.05},
                    "intervals": {"E": [0.8, 1.0]},
                    "rms": 0.004,
                }
            },
            "holdout": {"laws": {"additive": {"rms": 0.011}}},
        },
        "findings": [{"law": "power law (N, D)", "predicted": 0.1, "measured": None, "verdict": "holds"}],
    }
}


@dataclass(frozen=True)
class Toy:
    """A study named toy in `root` and its planned runs: a trunk, two cooldowns from it, and its longer trunk."""

    root: Path
    specs: list[RunSpec]

    @property
    def store(self) -> RunStore:
        return RunStore(self.root)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    def train(self, spec: RunSpec, shift: float = 0.0) -> None:
        """Stores the run: finished, but the last planned one diverged."""
        scratch = self.store.scratch(spec.run_id)
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "checkpoint.safetensors").write_bytes(spec.run_id.encode())
        self.store.add(spec, result_of(spec, diverged=spec == self.specs[-1], shift=shift), TELEMETRY)

    def table(self) -> pl.DataFrame:
        return plan_table(self.specs, [describe(spec, 0) for spec in self.specs])

    def prepare(self) -> None:
        write(self.root / "data/tokens/manifest.json", json.dumps(MANIFEST))
        write(self.root / "data/tokens/train.bin", "abc")

    def plan(self) -> None:
        (self.root / "plan").mkdir(exist_ok=True)
        self.table().write_parquet(self.root / "plan/runs.parquet")

    def collect(self) -> None:
        runs, curves = collect(self.table().drop("spec"), self.store)
        (self.root / "results").mkdir(exist_ok=True)
        runs.write_parquet(self.root / "results/runs.parquet")
        runs.write_csv(self.root / "results/runs.csv")
        curves.write_parquet(self.root / "results/curves.parquet")
        collect_laws([], self.store, self.root / "results")
        collect_external([], self.root / "results")

    def publish(self) -> None:
        write(self.root / "results/findings.json", json.dumps({"experiments": FINDINGS, "external": EXTERNAL}))
        write(self.root / "results/metrics.json", "{}")
        write(self.root / "results/fit/language_model/points.csv", "N,D\n1,2\n")
        write(self.root / "reports/index.html", "<h1>toy</h1>")
        write(self.root / "reports/figures/loss.svg", "<svg/>")

    def finish(self) -> None:
        """Does everything that all six stages write."""
        self.prepare()
        self.plan()
        for spec in self.specs:
            self.train(spec)
        self.collect()
        self.publish()

    def mirrored(self, wanted: str) -> list[Run]:
        """The MLflow runs of the study that a filter finds, by name."""
        client = MlflowClient(self.uri)
        found = client.search_runs([client.get_experiment_by_name("toy").experiment_id], wanted)
        return sorted(found, key=lambda run: run.info.run_name)

    def training_runs(self) -> list[Run]:
        return self.mirrored("tags.run_id LIKE '%'")


TELEMETRY = {
    "seconds": 2.0,
    "tokens": 500,
    "attempts": 1,
    "host": "here",
    "versions": {"torch": "2.13.0"},
    "finished_at": "2026-01-02T03:04:05Z",
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def result_of(spec: RunSpec, diverged: bool, shift: float) -> RunResult:
    """A result with a curve of NUM_ROWS rows, 10, 20, ... tokens, whose loss is 5 - row / 1000 + shift."""
    rows = np.arange(NUM_ROWS)
    curve = {
        "tokens": 10 * (rows + 1),
        "train_loss": 5.0 - rows / 1000 + shift,
        "learning_rate_scale": np.ones(NUM_ROWS),
        "batch_tokens": np.full(NUM_ROWS, 256),
    }
    done = spec.settings["course"]["end"]
    if diverged:
        curve["train_loss"][-1] = np.nan
        return RunResult("diverged", "loss is nan after 7,000 tokens", {}, curve, {}, 0, 7000)
    if spec.kind == "trunk":
        return RunResult("finished", None, {}, curve, {"losses": np.zeros(0, np.float32)}, 0, done)
    arrays = {"losses": np.float32([2.0, 4.0]), "documents": np.int32([0, 1])}
    return RunResult("finished", None, {"loss": 3.0 + shift, "bits_per_byte": 4.3}, curve, arrays, 0, done)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of an MLflow store with its tables, made quietly where nothing is to be tracked."""
    root = tmp_path_factory.mktemp("empty")
    shutil.copy(ROOT / "params.yaml", root)
    script = "import sys, pipeline.tracking as t; assert 'mlflow' not in sys.modules; t.track_all()"
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 training runs" in done.stdout
    return root / "mlflow.db"


def environment() -> dict[str, str]:
    """This process's environment with the project importable and no MLflow or analytics settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    return kept | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


@pytest.fixture
def toy(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The toy study, planned in memory, with nothing on disk but params.yaml and an MLflow store without runs."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    yaml = YAML()
    tree = yaml.load(ROOT / "params.yaml")
    tree["study"]["name"] = "toy"
    tree["language_model"]["grid"] = {"kind": "sizes_by_tokens", "widths": [32], "tokens": [100_000, 200_000]}
    tree["language_model"]["replicates"] = {"seeds": [], "widths": []}
    yaml.dump(tree, tmp_path / "params.yaml")
    settings = read_params(tmp_path / "params.yaml").language_model
    return Toy(tmp_path, plan(settings, CorpusFacts(MANIFEST["digest"], 256, 2_000_000)))
