"""The results of a study as two tables, selected by the plan and never by what happens to lie in the store."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.execution.run_store import RunStore
from pipeline.planning.table import CURVES, MEASURED, ORDER, PLANNED, schema


def collect(plan: pl.DataFrame, store: RunStore) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(runs, curves) of every planned run, with the columns of planning/table.py, sorted.

    Raises ValueError naming the runs that have no record yet.
    """
    results = {run_id: store.result(run_id) for run_id in plan["run_id"]}
    missing = [run_id for run_id, result in results.items() if result is None]
    if missing:
        raise ValueError(
            f"runs/: {len(missing)} of {len(results)} planned runs have no record: {', '.join(missing[:5])}"
        )
    errors = _errors(plan, results, store)
    rows = [
        {
            "run_id": run_id,
            "loss": result["scalars"].get("loss"),
            "bits_per_byte": result["scalars"].get("bits_per_byte"),
            "loss_se_level": errors.get(run_id, (None, None))[0],
            "loss_se_compared": errors.get(run_id, (None, None))[1],
            "status": result["status"],
            "reason": result["reason"],
        }
        for run_id, result in results.items()
    ]
    measured = pl.DataFrame(rows, schema={"run_id": pl.String} | schema(MEASURED))
    runs = plan.join(measured, on="run_id", how="left").select(list(schema(PLANNED, MEASURED))).sort(ORDER)
    recorded = [store.curve(run_id) for run_id, result in results.items() if result["status"] != "failed"]
    curves = pl.concat(recorded) if recorded else pl.DataFrame(schema=schema(CURVES))
    return runs, curves.sort("run_id", "tokens")


def _errors(plan: pl.DataFrame, results: dict, store: RunStore) -> dict[str, tuple[float, float]]:
    """run_id -> standard errors of its loss, in nats/token: of the level, and of comparisons between the runs.

    Windows of one document are alike, so the document is the independent unit: with x the losses of n windows, the
    variance of their mean is sum over documents of (sum over its windows of (x - mean))^2 / n^2 (cluster-robust). For
    comparisons x is the window's loss over the run's mean, less the average of that ratio over all runs.
    """
    losses, documents = {}, {}
    for run_id in plan["run_id"]:
        if "loss" in results[run_id]["scalars"]:
            arrays = store.arrays(run_id)
            losses[run_id] = arrays["losses"].astype(np.float64)
            documents[run_id] = arrays["documents"]
    errors = {}
    for count in {len(x) for x in losses.values()}:
        same = [run_id for run_id, x in losses.items() if len(x) == count]
        shared = np.mean([losses[run_id] / losses[run_id].mean() for run_id in same], axis=0)
        for run_id in same:
            ratio = losses[run_id] / losses[run_id].mean()
            loss, groups = results[run_id]["scalars"]["loss"], documents[run_id]
            errors[run_id] = (loss * _clustered_error(ratio, groups), loss * _clustered_error(ratio - shared, groups))
    return errors


def _clustered_error(x: np.ndarray, groups: np.ndarray) -> float:
    sums = np.bincount(groups, weights=x - x.mean())
    return float(np.sqrt(np.sum(sums**2)) / len(x))
