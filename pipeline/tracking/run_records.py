"""The record of each training run, read from the run store, or from results/ where the store is not at hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.plain import flatten, number
from pipeline.planning.run_spec import SETTLED
from pipeline.planning.table import PLANNED, read_plan
from pipeline.reporting.inputs import read_parquet
from pipeline.tracking.dvc_hash import dvc_hash
from pipeline.tracking.record import Record, texts
from pipeline.tracking.stage_records import corpus_dataset


def planned_facts(root: Path) -> dict[str, dict]:
    """run_id -> the columns of table.PLANNED; empty where there is no plan."""
    path = root / "plan/runs.parquet"
    return {row["run_id"]: row for row in read_plan(path)[0].iter_rows(named=True)} if path.exists() else {}


def run_hash(store: RunStore, run_id: str) -> str:
    """DVC's hash of the result.json of a run."""
    return dvc_hash(store.folder(run_id) / "result.json")


def run_record(store: RunStore, run_id: str, facts: dict | None) -> Record:
    """The record of a settled training run; `facts` are its planned columns, None for a run of an earlier plan.

    The curve of a law's run is an artifact: as metrics, hundreds of short runs would cost more than they took.
    """
    result, telemetry = store.result(run_id), store.telemetry(run_id) or {}
    spec = store.spec(run_id)
    volatile = {name: value for name, value in telemetry.items() if name not in ("run_id", "label", "flops_own")}
    measured = flatten(volatile)
    tags = {"status": result["status"], "data_digest": spec.data_digest, "code_digest": spec.code_digest}
    tags |= {f"telemetry/{name}": value for name, value in measured.items() if isinstance(value, str)}
    tags |= {"reason": result["reason"]} if result["reason"] else {}
    tags |= {"parent_id": spec.needs} if spec.needs else {}
    tags |= {"checkpoint": store.checkpoint(run_id)} if result["status"] == "finished" else {}
    known = {"experiment": spec.experiment, "kind": spec.kind, "seed": spec.seed, "flops_own": spec.flops}
    studied = spec.experiment == LANGUAGE_MODEL
    # MLflow shows what is called system/ on a page of its own, so that the curves of the training come first.
    speeds = {f"system/{name}": float(value) for name, value in measured.items() if number(value)}
    dataset = corpus_dataset(store.root) if studied else None
    ended = _milliseconds(telemetry.get("finished_at"))
    return Record(
        name=spec.label or run_id,
        identity={"run_id": run_id},
        hashes={"dvc_hash": run_hash(store, run_id)},
        tags=tags,
        params=texts(flatten(spec.settings) | known | _without_ids(facts or {})),
        metrics=result["scalars"] | speeds,
        step=result["done"],
        curves=store.curve(run_id).drop("run_id") if studied else pl.DataFrame(),
        artifacts=() if studied else ((store.folder(run_id) / "curve.parquet", ""),),
        dataset=dataset if dataset and dataset.digest == spec.data_digest else None,
        note=_note(result["scalars"], facts),
        of_law=not studied,
        began=ended and ended - round(1000 * telemetry.get("seconds", 0)),
        ended=ended,
        succeeded=result["status"] == "finished",
        unique=True,
    )


def published_records(root: Path) -> dict[str, Callable[[], Record]]:
    """run_id -> its record from results/ alone, for a clone that has the results of a study but not its runs."""
    path = root / "results/runs.parquet"
    if not path.exists():
        return {}
    runs = read_parquet(path).filter(pl.col("status").is_in(SETTLED))
    curves = read_parquet(root / "results/curves.parquet").partition_by("run_id", as_dict=True, include_key=False)
    hashes = {"dvc_hash": dvc_hash(path)}

    def record(row: dict) -> Record:
        tags = {name: row[name] for name in ("status", "reason", "parent_id") if row[name]}
        losses = {name: row[name] for name in ("loss", "bits_per_byte") if row[name] is not None}
        return Record(
            name=f"width {row['width']} {row['kind']} to {row['D']:,} tokens seed {row['seed']}",
            identity={"run_id": row["run_id"]},
            hashes=hashes,
            tags=tags | {"mirrors": "results/runs.parquet"},
            params=texts(_without_ids({name: row[name] for name in PLANNED})),
            metrics=losses,
            step=row["D"],
            curves=curves.get((row["run_id"],), pl.DataFrame()),
            succeeded=row["status"] == "finished",
            unique=True,
            note=_note(losses, row),
        )

    def of_law(law: str, source: Path, row: dict) -> Record:
        facts = _without_ids(row)
        return Record(
            name=f"{law}: {row['kind']} seed {row['seed']}",
            identity={"run_id": row["run_id"]},
            hashes={"dvc_hash": dvc_hash(source)},
            tags={"status": row["status"], "mirrors": str(source.relative_to(root))},
            params=texts({name: value for name, value in facts.items() if not number(value)}),
            metrics={name: float(value) for name, value in facts.items() if number(value)},
            succeeded=row["status"] == "finished",
            unique=True,
            of_law=True,
        )

    records = {row["run_id"]: partial(record, row) for row in runs.iter_rows(named=True)}
    for source in sorted((root / "results/laws").glob("*/runs.parquet")):
        rows = read_parquet(source).filter(pl.col("status").is_in(SETTLED)).iter_rows(named=True)
        records |= {row["run_id"]: partial(of_law, source.parent.name, source, row) for row in rows}
    return records


def _note(scalars: dict, facts: dict | None) -> str:
    """What a run of the language model found, in one line; "" for another."""
    if not facts or facts.get("N_non_embedding") is None:
        return ""
    size = f"N = {facts['N_non_embedding']:,} non-embedding parameters, D = {facts['D']:,} tokens"
    return f"{size}: validation loss {scalars['loss']:.4f} nats/token" if "loss" in scalars else size


def _without_ids(facts: dict) -> dict:
    return {name: value for name, value in facts.items() if name not in ("run_id", "parent_id") and value is not None}


def _milliseconds(moment: str | None) -> int | None:
    return round(1000 * datetime.fromisoformat(moment).timestamp()) if moment else None
