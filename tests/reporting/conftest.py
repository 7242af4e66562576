"""A finished study written to a folder through the documented schema, from a surface that is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, sync_playwright

from pipeline.experiments.language_model.judge import judge
from pipeline.fitting.laws import QForm
from pipeline.params import read_params
from tests.reporting.chromium import CHROMIUM, QUIET
from tests.small_study import MANIFEST

_ROOT = Path(__file__).parents[2]
_BUILD = """
from pathlib import Path
from pipeline.params import read_params
from pipeline.reporting.study_report import write_report
write_report(read_params(), Path(), Path())
"""
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_ROOT)}
TRUTH = {"E": 0.81, "A": 28.3, "alpha": 0.354, "B": 73.1, "beta": 0.358, "q": 1.48}
WIDTHS, TOKENS, DEPTH, CONTEXT = (32, 48, 64, 96), (150_000, 300_000, 600_000, 1_200_000), 3, 64


def surface(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Loss in nats/token of the known law."""
    return QForm(**TRUTH).loss(N, D)


def _row(kind: str, width: int, D: int, seed: int, **facts) -> dict:
    body, head = 12 * DEPTH * width**2, 256 * width
    a_token = 6.0 * (body + head) + 6.0 * DEPTH * width * CONTEXT
    parent = f"trunk-{width}-{seed}" if kind == "cooldown" else None
    start = int(0.8 * D) if kind == "cooldown" else 0
    return {
        "run_id": f"{kind}-{width}-{D}-{seed}" if kind != "trunk" else f"trunk-{width}-{seed}",
        "experiment": "language_model",
        "kind": kind,
        "role": "replicate" if seed else "grid",
        "recipe": "wsd",
        "parent_id": parent,
        "seed": seed,
        "width": width,
        "depth": DEPTH,
        "head_size": 16,
        "context": CONTEXT,
        "N_total": body + 2 * head,
        "N_non_embedding": body,
        "N_with_head": body + head,
        "D": D,
        "C": a_token * D,
        "C_6ND": 6.0 * body * D,
        "flops_own": a_token * (D - start),
        "start_tokens": start,
        "loss": None,
        "bits_per_byte": None,
        "loss_se_level": None,
        "loss_se_compared": None,
        "status": "finished",
        "reason": None,
    } | facts


def runs_frame(
    tokens: tuple[int, ...] = TOKENS, failures: bool = True, replicates: bool = True, noise: float = 0.003
) -> pl.DataFrame:
    """results/runs.parquet of the known surface, `noise` the sd of ln L, with one diverged and one failed run."""
    random = np.random.default_rng(0)
    rows = []
    for seed in (0, 1, 2) if replicates else (0,):
        for width in WIDTHS if seed == 0 else WIDTHS[:2]:
            rows.append(_row("trunk", width, int(0.8 * tokens[-1]), seed))
            for D in tokens if seed == 0 else tokens[:2]:
                loss = float(surface(12 * DEPTH * width**2, D) * np.exp(noise * random.standard_normal()))
                rows.append(
                    _row(
                        "cooldown",
                        width,
                        D,
                        seed,
                        loss=loss,
                        bits_per_byte=loss / np.log(2),
                        loss_se_level=0.006 * loss,
                        loss_se_compared=0.0015 * loss,
                    )
                )
    if failures:
        rows[4] |= {
            "loss": None,
            "bits_per_byte": None,
            "status": "diverged",
            "reason": "loss 8.1 stayed above its start 5.55 <script>alert(1)</script>",
        }
        rows[min(9, len(rows) - 1)] |= {
            "loss": None,
            "bits_per_byte": None,
            "status": "failed",
            "reason": "ValueError: a bug & its line",
        }
    schema = {
        "parent_id": pl.String,
        "reason": pl.String,
        "loss": pl.Float64,
        "bits_per_byte": pl.Float64,
        "loss_se_level": pl.Float64,
        "loss_se_compared": pl.Float64,
    }
    return pl.DataFrame(rows, schema_overrides=schema).sort("experiment", "N_non_embedding", "D", "seed", "kind")


def curves_frame(runs: pl.DataFrame) -> pl.DataFrame:
    """results/curves.parquet: 60 rows a run, from initialisation to the end of the run."""
    parts = []
    for run in runs.iter_rows(named=True):
        tokens = np.unique(np.linspace(run["D"] / 60, run["D"], 60).astype(np.int64))
        loss = surface(run["N_non_embedding"], tokens.astype(float)) + 0.2
        scale = np.where(tokens > run["start_tokens"], 0.5, 1.0)
        parts.append(
            pl.DataFrame(
                {
                    "run_id": run["run_id"],
                    "tokens": tokens,
                    "train_loss": loss,
                    "learning_rate_scale": scale,
                    "batch_tokens": np.full(len(tokens), 256),
                }
            )
        )
    return pl.concat(parts).sort("run_id", "tokens")


PARAMS = """
study: {name: "Loss & <scale>"}
prepare:
  sources: [{kind: text, path: corpus}]
  tokenizer: {kind: bytes}
  validation_fraction: 0.05
language_model:
  grid: {kind: sizes_by_tokens, widths: [32, 48, 64, 96], tokens: [150000, 300000, 600000, 1200000]}
  replicates: {seeds: [1, 2], widths: [32, 48], max_tokens: 300000}
  model: {depth: 3, head_size: 16, context: 64}
  optimizer: {kind: muon, matrix_rate: 0.01, embedding_rate: 0.008, head_rate: 0.008}
  batch: {tokens: 256}
  schedule: {kind: wsd, warmup_tokens: 12800}
  evaluation: {windows: 64, windows_per_document: 4}
train: {micro_batch_tokens: 4096, checkpoint_seconds: 30.0, retries: 2}
collect: {}
fit: {convention: non_embedding, bootstrap: 200}
report: {subtitle: "a test study"}
"""


def write_study(root: Path, runs: pl.DataFrame, telemetry: bool = True) -> Path:
    """The folder `root` filled with everything that the report reads; the fit is the study's own judge."""
    for folder in ("results/fit/language_model", "plan", "telemetry", "data/tokens"):
        (root / folder).mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    curves = curves_frame(runs)
    judgement = judge(read_params(root / "params.yaml").fit, runs, curves)
    (root / "data/tokens/manifest.json").write_text(json.dumps(MANIFEST))
    runs.write_parquet(root / "results/runs.parquet")
    curves.write_parquet(root / "results/curves.parquet")
    planned = runs.select(runs.columns[: runs.columns.index("start_tokens") + 1])
    planned.with_columns(pl.lit("{}").alias("spec")).write_parquet(root / "plan/runs.parquet")
    findings = [finding.as_dict() for finding in judgement.findings]
    report = {"experiments": {"language_model": {"findings": findings, "summary": judgement.summary}}}
    (root / "results/findings.json").write_text(json.dumps(report, allow_nan=False))
    for name, table in judgement.tables.items():
        table.write_csv(root / f"results/fit/language_model/{name}.csv")
    for run in runs.filter(pl.col("status") == "finished").iter_rows(named=True) if telemetry else ():
        own = run["D"] - run["start_tokens"]
        facts = {"run_id": run["run_id"], "seconds": own / 50_000, "tokens": own, "tokens_per_second": 50_000.0}
        facts |= {"training_seconds": own / 62_500, "matrix_flops_per_second": 1e11}
        facts |= {"host": "node-1", "device": "cpu", "attempts": 1, "resumed_from_tokens": 0, "versions": {}}
        (root / f"telemetry/{run['run_id']}.json").write_text(json.dumps(facts))
    return root


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes a study of the known surface and says where."""

    def make(
        tokens: tuple[int, ...] = TOKENS,
        failures: bool = True,
        replicates: bool = True,
        telemetry: bool = True,
        noise: float = 0.003,
    ) -> Path:
        runs = runs_frame(tokens, failures, replicates, noise)
        return write_study(tmp_path_factory.mktemp("study"), runs, telemetry)

    return make


@pytest.fixture(scope="session")
def report(make_study: Callable[..., Path]) -> Path:
    """The folder of a whole study with its report built."""
    return build_report(make_study())


def build_report(root: Path) -> Path:
    """The study in `root` after the report stage, less its MLflow mirror."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _BUILD],
        cwd=root,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def refused(make_study: Callable[..., Path]) -> Path:
    """The folder of a study with so much noise that no law passes its gate, with its report built."""
    return build_report(make_study(noise=0.12))


@pytest.fixture(scope="session")
def build() -> Callable[[Path], Path]:
    """The function that runs the report stage in a folder."""
    return build_report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()
