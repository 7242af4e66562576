"""A study of any number of runs on disk, planned by the real planner, with losses of a known law and noise.

It holds what the stages fit and report read, so that they can be timed at sizes that nobody trains here.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from pipeline.execution.digests import seal
from pipeline.experiments.experiment import LANGUAGE_MODEL, CorpusFacts, step
from pipeline.experiments.language_model.plan import describe
from pipeline.fitting.laws import Chinchilla
from pipeline.params import read_params
from pipeline.planning.table import CURVES, MEASURED, ORDER, PLANNED, plan_table, read_plan, schema

LAW = Chinchilla(E=1.7, A=400.0, alpha=0.34, B=410.0, beta=0.28)
NOISE_SD = 0.003
"""Sd of ln L."""
NUM_TOKEN_COUNTS = 6
LEAST_TOKENS, MOST_TOKENS = 120_000, 3_840_000
ROWS_A_CURVE = 60
PARAMS = """
study: {{name: simulated}}
prepare:
  sources: [{{kind: text, path: corpus}}]
  tokenizer: {{kind: bytes}}
  validation_fraction: 0.05
language_model:
  grid: {{kind: sizes_by_tokens, widths: {widths}, tokens: {tokens}}}
  replicates: {{seeds: [1], widths: {repeated}}}
  model: {{depth: 3, head_size: 16, context: 64}}
  optimizer: {{kind: muon, matrix_rate: 0.01, embedding_rate: 0.008, head_rate: 0.008}}
  batch: {{tokens: 256}}
  schedule: {{kind: wsd, warmup_tokens: 12800}}
  evaluation: {{windows: 64, windows_per_document: 4}}
train: {{micro_batch_tokens: 4096, checkpoint_seconds: 30.0, retries: 2}}
collect: {{}}
fit: {{convention: non_embedding, bootstrap: 1000}}
report: {{}}
"""
MANIFEST = {
    "digest": "ab" * 32,
    "dtype": "uint8",
    "vocab_size": 256,
    "separator": 0,
    "train": {"tokens": 10**10, "documents": 900, "bytes": 10**10 - 900},
    "validation": {"tokens": 100_000, "documents": 50, "bytes": 99_950},
    "sources": [{"kind": "text", "path": "corpus", "documents": 950, "bytes": 10**10, "sha256": "cd" * 32}],
    "duplicates": 0,
    "empty": 0,
    "invalid": 0,
    "split": {"fraction": 0.05, "seed": 0, "rule": "hash of the text"},
    "tokenizer": {"kind": "bytes"},
}


def write_study(root: Path, num_runs: int, num_token_counts: int = NUM_TOKEN_COUNTS) -> None:
    """Fills the folder `root` with a study of at least `num_runs` runs, trunks included, up to the results."""
    for name in ("results", "plan", "telemetry", "data/tokens"):
        (root / name).mkdir(parents=True)
    # A size has a trunk and a cooldown for each token count; a third of the sizes is run twice.
    num_sizes = next(n for n in count(4) if (n + n // 3) * 2 * num_token_counts >= num_runs)
    widths = [16 * (2 + index) for index in range(num_sizes)]
    tokens = [round(D) for D in np.geomspace(LEAST_TOKENS, MOST_TOKENS, num_token_counts)]
    text = PARAMS.format(widths=widths, tokens=tokens, repeated=widths[: num_sizes // 3])
    (root / "params.yaml").write_text(text, encoding="utf-8")
    (root / "data/tokens/manifest.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    settings = read_params(root / "params.yaml").language_model
    facts = CorpusFacts(MANIFEST["digest"], MANIFEST["vocab_size"], MANIFEST["train"]["tokens"])
    specs = step(LANGUAGE_MODEL, "plan")(settings, facts)
    plan = plan_table(specs, [describe(spec, settings.seed) for spec in specs])
    plan.write_parquet(root / "plan/runs.parquet")
    runs = _measured(plan.drop("spec"))
    runs.write_parquet(root / "results/runs.parquet")
    _curves(runs).write_parquet(root / "results/curves.parquet")
    for run in runs.iter_rows(named=True):
        own = run["D"] - run["start_tokens"]
        timed = {
            "run_id": run["run_id"],
            "seconds": own / 5e4,
            "attempts": 1,
            "tokens": own,
            "tokens_per_second": 5e4,
            "device": "cpu",
        }
        (root / f"telemetry/{run['run_id']}.json").write_text(json.dumps(timed), encoding="utf-8")


def write_records(root: Path) -> None:
    """Adds the records of the study that `write_study` left in `root`, as the run store writes them but not flushed to
    the disk one by one, so that stage collect can be timed; checkpoints, which it does not read, are left out."""
    _, specs = read_plan(root / "plan/runs.parquet")
    runs, curves = (pl.read_parquet(root / f"results/{name}.parquet") for name in ("runs", "curves"))
    losses = dict(runs.select("run_id", "loss").iter_rows())
    own = {str(run_id): curve for (run_id,), curve in curves.group_by("run_id", maintain_order=True)}
    evaluation = next(spec.settings["evaluation"] for spec in specs if "evaluation" in spec.settings)
    random, windows = np.random.default_rng(1), evaluation["windows"]
    documents = np.arange(windows, dtype=np.int64) // evaluation["windows_per_document"]
    for spec in specs:  # trunks have no loss
        loss, folder = losses[spec.run_id], root / "runs" / spec.run_id
        folder.mkdir(parents=True)
        scalars = {} if loss is None else {"loss": loss, "bits_per_byte": loss / np.log(2)}
        record = {"status": "finished", "reason": None, "done": spec.settings["course"]["end"], "scalars": scalars}
        (folder / "spec.json").write_text(spec.to_json() + "\n", encoding="utf-8")
        (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
        own[spec.run_id].write_parquet(folder / "curve.parquet")
        noise = 1 + 0.3 * random.standard_normal(windows)
        arrays = {} if loss is None else {"losses": np.float32(loss * noise), "documents": documents}
        save_file(arrays, folder / "arrays.safetensors")
        seal(folder)


def _measured(plan: pl.DataFrame) -> pl.DataFrame:
    """results/runs.parquet: cooldowns have the loss of LAW at their (N, D), with noise."""
    noise = np.exp(NOISE_SD * np.random.default_rng(0).standard_normal(plan.height))
    loss = LAW.loss(plan["N_non_embedding"].to_numpy().astype(float), plan["D"].to_numpy().astype(float)) * noise
    is_point = pl.col("kind") != "trunk"
    return (
        plan.with_columns(pl.Series("loss", loss))
        .with_columns(
            pl.when(is_point).then("loss").alias("loss"),
            *(
                pl.when(is_point).then(factor * pl.col("loss")).alias(name)
                for name, factor in (
                    ("bits_per_byte", 1 / np.log(2)),
                    ("loss_se_level", 0.006),
                    ("loss_se_compared", 0.0015),
                )
            ),
            pl.lit("finished").alias("status"),
            pl.lit(None, pl.String).alias("reason"),
        )
        .select(list(schema(PLANNED, MEASURED)))
        .sort(ORDER)
    )


def _curves(runs: pl.DataFrame) -> pl.DataFrame:
    """results/curves.parquet: ROWS_A_CURVE rows a run, from initialisation to its end."""
    runs = runs.sort("run_id")
    N, D, start = (runs[name].to_numpy()[:, None].astype(float) for name in ("N_non_embedding", "D", "start_tokens"))
    tokens = np.linspace(D[:, 0] / ROWS_A_CURVE, D[:, 0], ROWS_A_CURVE, axis=1).astype(np.int64)
    values = {
        "run_id": runs["run_id"].gather(np.repeat(np.arange(len(runs)), ROWS_A_CURVE)),
        "tokens": tokens.ravel(),
        "train_loss": LAW.loss(N, tokens.astype(float)).ravel() + 0.2,
        "learning_rate_scale": np.where(tokens > start, 0.5, 1.0).ravel(),
        "batch_tokens": np.full(tokens.size, 256),
    }
    return pl.DataFrame(values, schema=schema(CURVES))
