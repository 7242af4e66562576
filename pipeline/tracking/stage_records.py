"""The record of each stage of a study, read from what the stage wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from pipeline.execution.run_store import RunStore
from pipeline.plain import flatten, number, read_json
from pipeline.planning.run_spec import SETTLED
from pipeline.planning.table import read_plan
from pipeline.planning.waivers import read_waivers, waived_runs
from pipeline.reporting.inputs import read_parquet
from pipeline.tracking.dvc_hash import dvc_hash
from pipeline.tracking.record import Dataset, Record, texts

# The outputs of each stage, as in dvc.yaml.
OUTPUTS = {
    "prepare": ("data/tokens",),
    "plan": ("plan/runs.parquet",),
    "train": ("runs", "telemetry"),
    "collect": (
        "results/runs.parquet",
        "results/runs.csv",
        "results/curves.parquet",
        "results/laws",
        "results/external",
    ),
    "fit": ("results/fit", "results/findings.json", "results/metrics.json"),
    "report": ("reports",),
}
_PLAN = "plan/runs.parquet"
MANIFEST = "data/tokens/manifest.json"
COUNTS = ("train", "validation", "duplicates", "empty", "invalid")
EXTERNAL = ("law", "estimator", "status", "num_runs", "params", "intervals")
"""Of a fit to runs from elsewhere, what its stage's record shows."""


def stage_record(stage: str, root: Path) -> Record:
    """The record of a stage of the study in `root`, whose outputs must be there."""
    hashes = {f"dvc_hash/{path}": dvc_hash(root / path) for path in OUTPUTS[stage]}
    identity = train_identity(root) if stage == "train" else {"stage": stage} | hashes
    source = f"stages/{stage}.py"
    return Record(name=stage, identity=identity, hashes=hashes, source=source, **_READERS[stage](root))


def train_identity(root: Path) -> dict[str, str]:
    """The tags of the run of stage train: there is one for each plan, and it is there before any output is."""
    return {"stage": "train", f"dvc_hash/{_PLAN}": dvc_hash(root / _PLAN)}


def _prepared(root: Path) -> dict:
    path = root / MANIFEST
    manifest = read_json(path)
    counts = {name: manifest[name] for name in COUNTS}
    described = {name: manifest[name] for name in ("dtype", "vocab_size", "tokenizer", "split")}
    return {
        "tags": {"data_digest": manifest["digest"]},
        "params": texts(flatten(described)),
        "metrics": flatten(counts),
        "artifacts": ((path, ""),),
        "dataset": corpus_dataset(root),
    }


def corpus_dataset(root: Path) -> Dataset | None:
    """The prepared corpus in `root`, None where there is none."""
    path = root / MANIFEST
    if not path.exists():
        return None
    manifest = read_json(path)
    source = {"uri": str(path.parent.relative_to(root)), "sources": manifest["sources"]}
    return Dataset("corpus", manifest["digest"], json.dumps(source), json.dumps({x: manifest[x] for x in COUNTS}))


def _planned(root: Path) -> dict:
    table, specs = read_plan(root / _PLAN)
    kinds = {f"num_{kind}": count for kind, count in table.group_by("kind").len().sort("kind").iter_rows()}
    extent = {f"{end}_{x}": getattr(table[x], end)() for x in ("N_non_embedding", "D", "C") for end in ("min", "max")}
    digests = {name: ",".join(sorted({getattr(x, name) for x in specs})) for name in ("data_digest", "code_digest")}
    return {
        "tags": digests,
        "params": {name: ",".join(sorted(set(table[name].drop_nulls()))) for name in ("experiment", "recipe")},
        "metrics": {"num_runs": len(table), "flops": table["flops_own"].sum()} | kinds | extent,
        "texts": {_PLAN.replace("parquet", "csv"): table.write_csv()},
    }


def _trained(root: Path) -> dict:
    store, specs = RunStore(root), read_plan(root / _PLAN)[1]
    planned, waived = [spec.run_id for spec in specs], waived_runs(specs, read_waivers(root))
    found = ["waived" if run_id in waived else store.status(run_id) for run_id in planned]
    timed = [facts for facts in map(store.telemetry, planned) if facts]
    counts = {f"num_{status}": found.count(status) for status in (*SETTLED, "failed", "waived")}
    settled = len(found) - sum(status not in (*SETTLED, "waived") for status in found)
    troubles = {f"num_{name}": sum(facts.get(name, 0) for facts in timed) for name in ("lost", "halved", "spikes")}
    return {
        "metrics": counts
        | troubles
        | {"num_runs": len(found), "num_unsettled": len(found) - settled}
        | {f"total_{name}": sum(facts[name] for facts in timed) for name in ("seconds", "tokens")},
        "succeeded": settled == len(found),
    }


def _collected(root: Path) -> dict:
    runs = read_parquet(root / "results/runs.parquet")
    counts = {f"num_{status}": count for status, count in runs.group_by("status").len().sort("status").iter_rows()}
    least = {"min_loss": runs["loss"].min()} if runs["loss"].count() else {}
    return {
        "metrics": {"num_runs": len(runs), "num_points": runs["loss"].count()} | counts | least,
        "artifacts": ((root / "results/runs.csv", "results"),),
    }


def _fitted(root: Path) -> dict:
    path = root / "results/findings.json"
    leaves, tags = {}, {}
    said = read_json(path)
    for name, fitted in said.get("external", {}).items():
        leaves |= flatten({key: fitted[key] for key in EXTERNAL}, f"external.{name}.")
    for experiment, judged in said["experiments"].items():
        leaves |= flatten(judged["summary"], f"{experiment}.")
        for finding in judged["findings"]:
            law = f"{experiment}.findings.{re.sub(r'[^-./ 0-9A-Z_a-z]', '_', finding['law'])}"
            tags[f"{law}.verdict"] = finding["verdict"]
            leaves |= {f"{law}.{name}": finding[name] for name in ("predicted", "measured")}
    return {
        "tags": tags,
        "metrics": {name: value for name, value in leaves.items() if number(value)},
        "params": texts({name: x for name, x in leaves.items() if x is not None and not number(x)}),
        "artifacts": ((path, "results"), (root / "results/fit", "results/fit")),
    }


def _reported(root: Path) -> dict:
    return {"artifacts": ((root / "reports", "reports"),)}


_READERS: dict[str, Callable[[Path], dict]] = {
    "prepare": _prepared,
    "plan": _planned,
    "train": _trained,
    "collect": _collected,
    "fit": _fitted,
    "report": _reported,
}
