"""A finished study written to a folder through the documented schema, from a surface that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

TRUTH = {"E": 0.81, "A": 28.3, "alpha": 0.354, "B": 73.1, "beta": 0.358, "q": 1.48}
ADDITIVE = {"E": 0.95, "A": 47.5, "alpha": 0.446, "B": 116.0, "beta": 0.414}
WIDTHS, TOKENS, DEPTH, CONTEXT = (32, 48, 64, 96), (150_000, 300_000, 600_000, 1_200_000), 3, 64


def surface(N: np.ndarray, D: np.ndarray, law: dict = TRUTH) -> np.ndarray:
    """Loss in nats/token of the known law."""
    q = law.get("q", 1.0)
    return law["E"] + ((law["A"] / N ** law["alpha"]) ** q + (law["B"] / D ** law["beta"]) ** q) ** (1 / q)


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


def runs_frame(failures: bool = True, replicates: bool = True) -> pl.DataFrame:
    """results/runs.parquet of the known surface, with 0.3 % of noise, one diverged and one failed run."""
    random = np.random.default_rng(0)
    rows = []
    for seed in (0, 1, 2) if replicates else (0,):
        for width in WIDTHS if seed == 0 else WIDTHS[:2]:
            rows.append(_row("trunk", width, int(0.8 * TOKENS[-1]), seed))
            for D in TOKENS if seed == 0 else TOKENS[:2]:
                loss = float(surface(12 * DEPTH * width**2, D) * np.exp(0.003 * random.standard_normal()))
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
        rows[9] |= {"loss": None, "bits_per_byte": None, "status": "failed", "reason": "ValueError: a bug & its line"}
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


def _law(name: str, params: dict, rms: float, p: float) -> dict:
    formula = {"additive": "L = E + A/N^alpha + B/D^beta", "q_form": "L = E + ((A/N^alpha)^q + (B/D^beta)^q)^(1/q)"}[
        name
    ]
    return {
        "form": name,
        "formula": formula,
        "source": "arXiv 2203.15556",
        "params": params,
        "N_scale": 1.0,
        "D_scale": 1.0,
        "standard_errors": {key: abs(value) * 0.04 for key, value in params.items()},
        "intervals": {key: [value * 0.921, value * 1.083] for key, value in params.items()},
        "objective": rms**2 * 16,
        "rms": rms,
        "max": 2.1 * rms,
        "start_agreement": "61 of 64",
        "status": "converged",
        "condition_number": 4321.5,
        "lack_of_fit": {"chi2": 31.2, "degrees_of_freedom": 10, "p": p, "sd_used": 0.0035},
    }


def judged(runs: pl.DataFrame) -> tuple[list[dict], dict, dict[str, pl.DataFrame]]:
    """Findings, summary and tables as the documented schema has them, for the laws TRUTH and ADDITIVE."""
    laws = {"additive": ADDITIVE, "q_form": TRUTH}
    points = runs.filter((pl.col("kind") != "trunk") & pl.col("loss").is_not_null()).select(
        "run_id", "width", "seed", "role", pl.col("N_non_embedding").alias("N"), "D", "C", "loss"
    )
    for name, law in laws.items():
        predicted = surface(points["N"].to_numpy().astype(float), points["D"].to_numpy().astype(float), law)
        points = points.with_columns(pl.Series(f"predicted_{name}", predicted)).with_columns(
            (pl.col("loss") / pl.col(f"predicted_{name}")).log().alias(f"residual_{name}")
        )
    threshold = float(points["C"].quantile(0.75))
    holdout = points.filter(pl.col("C") > threshold).select(
        "run_id",
        "N",
        "D",
        "C",
        "loss",
        *[pl.col(f"predicted_{name}") for name in laws],
        *[(pl.col(f"predicted_{name}") * 0.985).alias(f"low_{name}") for name in laws],
        *[(pl.col(f"predicted_{name}") * 1.015).alias(f"high_{name}") for name in laws],
    )
    C = np.geomspace(points["C"].min(), 10 * points["C"].max(), 40)
    N_star = 0.35 * C**0.45
    D_star = C / (6 * N_star)
    loss = surface(N_star, D_star)
    frontier = pl.DataFrame(
        {
            "C": C,
            "N_star": N_star,
            "N_low": N_star * 0.9,
            "N_high": N_star * 1.1,
            "D_star": D_star,
            "D_low": D_star * 0.9,
            "D_high": D_star * 1.1,
            "loss": loss,
            "loss_low": loss * 0.99,
            "loss_high": loss * 1.01,
        }
    )
    rows = []
    for budget in (8e11, 1.6e12):
        for width in WIDTHS:
            N = 12 * DEPTH * width**2
            rows.append(
                {
                    "C": budget,
                    "N": N,
                    "loss": float(surface(N, budget / (6 * N))),
                    "N_star": 0.35 * budget**0.45,
                    "status": "minimum",
                    "reason": None,
                }
            )
    isoflop = pl.DataFrame(rows, schema_overrides={"reason": pl.String})
    cutoffs = pl.DataFrame(
        [
            {
                "N_min": 12 * DEPTH * width**2,
                "D_min": D,
                "num_sizes": 3,
                "num_tokens": 3,
                "num_points": 9,
                "law": name,
                "rms": 0.004,
                "chi2": 11.0,
                "degrees_of_freedom": 4,
                "p": 0.03,
            }
            for width in WIDTHS[:2]
            for D in TOKENS[:2]
            for name in laws
        ]
    )
    excluded = runs.filter(pl.col("status") != "finished").select(
        "run_id", "kind", "width", "D", "seed", "status", "reason"
    )
    seeds = pl.DataFrame([{"width": 32, "D": 150_000, "num_seeds": 3, "sd_ln_loss": 0.0031}])
    fits = {"additive": _law("additive", ADDITIVE, 0.0082, 4e-23), "q_form": _law("q_form", TRUTH, 0.0039, 0.042)}
    row = frontier.row(-1, named=True)
    summary = {
        "convention": "non_embedding",
        "estimator": "L2 on ln L",
        "num_points": len(points),
        "num_excluded": len(excluded),
        "seed_noise": {"sd": 0.0035, "degrees_of_freedom": 8, "num_cells": 4, "method": "pooled over cells"},
        "level_error": 0.006,
        "compared_error": 0.0015,
        "laws": fits,
        "chosen": "q_form",
        "chosen_because": "its rms error on the hold-out is smaller (1.2 % against 2.6 %).",
        "holdout": {
            "quantile": 0.75,
            "threshold_C": threshold,
            "num_train": len(points) - len(holdout),
            "num_test": len(holdout),
            "laws": {
                "additive": {"rms": 0.0257, "max": 0.044, "interval_coverage": 0.4},
                "q_form": {"rms": 0.0115, "max": 0.02, "interval_coverage": 0.7},
            },
        },
        "valid_from": {
            "N_min": 36_864,
            "D_min": 300_000,
            "num_points": 12,
            "lack_of_fit_p": 0.19,
            "law": "q_form",
            "rule": "the largest set of runs whose lack-of-fit p is above 0.05",
        },
        "frontier": {
            "a": 0.5,
            "a_interval": [0.46, 0.54],
            "b": 0.5,
            "tokens_per_parameter_at_largest_C": row["D_star"] / row["N_star"],
            "interval": [9.0, 14.0],
            "C_range": [float(C[0]), float(C[-1])],
        },
        "isoflop": {
            "exponent_a": 0.48,
            "interval": [0.4, 0.56],
            "num_budgets": 2,
            "refused": [{"C": 1e11, "reason": "the minimum lies at the smallest size"}],
        },
        "conventions": {
            name: {"params": TRUTH, "rms": 0.0039, "holdout_rms": 0.0115}
            for name in ("total", "non_embedding", "with_head")
        },
    }
    findings = [
        {
            "law": "q-form of the loss",
            "statement": "the loss falls as one law of N and D",
            "formula": "L = E + ((A/N^alpha)^q + (B/D^beta)^q)^(1/q)",
            "source": "arXiv 2203.15556",
            "unit": "%",
            "predicted": 0.0,
            "measured": 1.15,
            "interval": [0.8, 1.5],
            "tolerance": 1.2,
            "verdict": "holds",
            "regime": [
                {"variable": "N", "unit": "parameters", "low": 36_864, "high": 331_776, "broke_at": None},
                {"variable": "D", "unit": "tokens", "low": 300_000, "high": None, "broke_at": 150_000},
            ],
        }
    ]
    tables = {
        "points": points,
        "holdout": holdout,
        "isoflop": isoflop,
        "frontier": frontier,
        "cutoffs": cutoffs,
        "excluded": excluded,
        "seeds": seeds,
    }
    return findings, summary, tables


PARAMS = """
study: {name: "Loss & <scale>"}
prepare:
  sources: [{kind: text, path: corpus}]
  tokenizer: {kind: bytes}
  validation_fraction: 0.05
plan: {experiments: [language_model]}
language_model:
  grid: {kind: sizes_by_tokens, widths: [32, 48, 64, 96], tokens: [150000, 300000, 600000, 1200000]}
  replicates: {seeds: [1, 2], widths: [32, 48], max_tokens: 300000}
  model: {depth: 3, head_size: 16, context: 64}
  optimizer: {kind: muon, matrix_rate: 0.01, embedding_rate: 0.008, head_rate: 0.008}
  batch: {tokens: 256}
  schedule: {kind: wsd, warmup_tokens: 12800}
  evaluation: {windows: 64}
train: {micro_batch_tokens: 4096, checkpoint_seconds: 30.0, retries: 2}
collect: {}
fit: {convention: non_embedding, bootstrap: 200}
report: {subtitle: "a test study"}
"""

MANIFEST = {
    "digest": "ab" * 32,
    "dtype": "uint8",
    "vocab_size": 256,
    "separator": 0,
    "train": {"tokens": 2_000_000, "documents": 900, "bytes": 1_999_100},
    "validation": {"tokens": 100_000, "documents": 50, "bytes": 99_950},
    "sources": [{"kind": "text", "path": "corpus", "documents": 950, "bytes": 2_099_050, "sha256": "cd" * 32}],
    "duplicates": 3,
    "empty": 1,
    "invalid": 2,
    "split": {"fraction": 0.05, "seed": 0, "rule": "hash of the text"},
    "tokenizer": {"kind": "bytes"},
}


def write_study(
    root: Path,
    runs: pl.DataFrame,
    findings: list[dict],
    summary: dict,
    tables: dict[str, pl.DataFrame],
    telemetry: bool = True,
) -> Path:
    """The folder `root` filled with everything that the report reads."""
    for folder in ("results/fit/language_model", "plan", "telemetry", "data/tokens"):
        (root / folder).mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    (root / "data/tokens/manifest.json").write_text(json.dumps(MANIFEST))
    runs.write_parquet(root / "results/runs.parquet")
    curves_frame(runs).write_parquet(root / "results/curves.parquet")
    columns = runs.columns
    planned = runs.select(columns[: columns.index("start_tokens") + 1]).with_columns(pl.lit("{}").alias("spec"))
    planned.write_parquet(root / "plan/runs.parquet")
    report = {"experiments": {"language_model": {"findings": findings, "summary": summary}}}
    (root / "results/findings.json").write_text(json.dumps(report))
    for name, table in tables.items():
        table.write_csv(root / f"results/fit/language_model/{name}.csv")
    if telemetry:
        for run in runs.filter(pl.col("status") == "finished").iter_rows(named=True):
            own = run["D"] - run["start_tokens"]
            facts = {
                "run_id": run["run_id"],
                "seconds": own / 50_000,
                "tokens": own,
                "tokens_per_second": 50_000.0,
                "host": "node-1",
                "device": "cpu",
                "attempts": 1,
                "resumed_from_tokens": 0,
                "versions": {"torch": "2.13.0"},
                "finished_at": "2025-01-01T00:00:00Z",
            }
            (root / f"telemetry/{run['run_id']}.json").write_text(json.dumps(facts))
    return root


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a study of the known surface and says where."""

    def make(name: str = "study", failures: bool = True, replicates: bool = True, telemetry: bool = True) -> Path:
        runs = runs_frame(failures, replicates)
        return write_study(tmp_path / name, runs, *judged(runs), telemetry=telemetry)

    return make
