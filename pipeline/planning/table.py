"""The columns of plan/runs.parquet and results/runs.parquet, in one place, with their meaning."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.collector import without_collector
from pipeline.planning.run_spec import RunSpec

PLANNED = {
    "run_id": (pl.String, "identity of the run: hash of everything that changes its numbers"),
    "experiment": (pl.String, "the experiment the run belongs to"),
    "kind": (
        pl.String,
        "trunk (constant rate, no loss), cooldown (from a trunk; a point of the law), scratch (cosine)",
    ),
    "role": (pl.String, "grid, or replicate: the same point with another seed"),
    "recipe": (pl.String, "wsd or cosine"),
    "parent_id": (pl.String, "the run this one starts from; null from initialisation"),
    "seed": (pl.Int64, "seed of the initial weights and of the data order"),
    "width": (pl.Int64, "width of the residual stream"),
    "depth": (pl.Int64, "number of layers"),
    "head_size": (pl.Int64, "width of an attention head"),
    "context": (pl.Int64, "tokens in a window"),
    "N_total": (pl.Int64, "all parameters"),
    "N_non_embedding": (pl.Int64, "parameters without embedding and head"),
    "N_with_head": (pl.Int64, "parameters without the embedding, with the head"),
    "D": (pl.Int64, "training tokens from initialisation to the end of the run"),
    "C": (pl.Float64, "training FLOPs from initialisation to D, attention and head included"),
    "C_6ND": (pl.Float64, "6 N_non_embedding D, FLOPs"),
    "flops_own": (pl.Float64, "training FLOPs of this piece alone"),
    "start_tokens": (pl.Int64, "tokens already seen where this piece starts"),
}
MEASURED = {
    "loss": (pl.Float64, "validation loss, nats/token; null for a trunk and for a run without a result"),
    "bits_per_byte": (pl.Float64, "validation loss, bits a byte of text"),
    "loss_se_level": (pl.Float64, "standard error of the level of the loss from the choice of validation windows"),
    "loss_se_compared": (pl.Float64, "the same, after the part common to all models is removed: what comparisons see"),
    "status": (pl.String, "finished, diverged, failed or waived; missing in a partial report"),
    "reason": (pl.String, "why a run is excluded; null for a finished run"),
}
CURVES = {
    "run_id": (pl.String, "the run"),
    "tokens": (pl.Int64, "tokens seen"),
    "train_loss": (pl.Float64, "training loss, nats/token, mean since the row before"),
    "learning_rate_scale": (pl.Float64, "learning rate over its peak"),
    "batch_tokens": (pl.Int64, "global batch, tokens"),
}
REPLAN = "run `dvc repro -f plan`"
ORDER = ["experiment", "N_non_embedding", "D", "seed", "kind", "run_id"]


def schema(*parts: dict) -> dict[str, pl.DataType]:
    """Column types of the given parts (PLANNED, MEASURED, CURVES), in order."""
    return {name: kind for part in parts for name, (kind, _) in part.items()}


@without_collector()
def plan_table(specs: list[RunSpec], described: list[dict]) -> pl.DataFrame:
    """One row a planned run: the columns of PLANNED, and `spec`, its canonical JSON."""
    rows = [
        {
            "run_id": spec.run_id,
            "experiment": spec.experiment,
            "kind": spec.kind,
            "parent_id": spec.needs,
            "seed": spec.seed,
            "flops_own": spec.flops,
            "spec": spec.to_json(),
            **facts,
        }
        for spec, facts in zip(specs, described, strict=True)
    ]
    return pl.DataFrame(rows, schema=schema(PLANNED) | {"spec": pl.String}).sort(ORDER)


@without_collector()
def read_plan(path: Path) -> tuple[pl.DataFrame, list[RunSpec]]:
    """The plan's table without `spec`, and the specs in the same order.

    Raises ValueError naming the column or the run when the file is not a plan, or a run not the one its spec describes.
    """
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(f"{path}: not a parquet file ({' '.join(str(error).split())}); {REPLAN}") from None
    expected = schema(PLANNED) | {"spec": pl.String}
    for name in expected:
        if table.schema.get(name) != expected[name]:
            raise ValueError(f"{path}: {name}: {table.schema.get(name)} where the plan has {expected[name]}; {REPLAN}")
    specs = []
    for run_id, text in table.select("run_id", "spec").iter_rows():
        try:
            spec = RunSpec.from_json(text)
            described = spec.run_id
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: run {run_id!r}: {error}; {REPLAN}") from None
        if described != run_id:
            raise ValueError(f"{path}: run {run_id!r}: its spec is that of {described}; {REPLAN}")
        specs.append(spec)
    return table.drop("spec"), specs
