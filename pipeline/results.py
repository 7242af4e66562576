"""The results of a study as tables, selected by the plan and never by what happens to lie in the store, and judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl

from pipeline.collector import without_collector
from pipeline.execution.record import AT_ONCE, NO_CURVES, Record, read_curves
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL, Judgement, reads, step
from pipeline.headline import headline
from pipeline.params import Params
from pipeline.plain import flatten, read_json
from pipeline.planning.run_spec import SETTLED, RunSpec, canonical_json
from pipeline.planning.table import CURVES, MEASURED, ORDER, PLANNED, schema
from pipeline.planning.waivers import read_waivers, waived_runs

WAIVED, MISSING = "waived", "missing"
"""The status of a run that a study goes on without, and of one that a partial report does not have yet."""
NONE: Mapping[str, tuple[str, str]] = MappingProxyType({})
VALUES = 1_000_000
"""Losses, or sums over documents, of all runs that are computed at once."""
EXCLUDED = ["run_id", "kind", "seed", "status", "reason"]


def waived(specs: list[RunSpec], root: Path) -> dict[str, tuple[str, str]]:
    """run_id -> status and reason of the runs of a plan that waivers.json in `root` leaves out."""
    return {run_id: (WAIVED, why) for run_id, why in waived_runs(specs, read_waivers(root)).items()}


def collect_study(
    plan: pl.DataFrame,
    laws: list[RunSpec],
    store: RunStore,
    results: Path,
    left_out: Mapping[str, tuple[str, str]] = NONE,
) -> pl.DataFrame:
    """Writes runs.parquet and curves.parquet of the language model in `plan`, and the tables of the runs `laws` of laws
    of learning mechanics, into the folder `results`; returns the first."""
    runs, curves = collect(plan.filter(pl.col("experiment") == LANGUAGE_MODEL), store, left_out)
    results.mkdir(exist_ok=True)
    runs.write_parquet(results / "runs.parquet")
    curves.write_parquet(results / "curves.parquet")
    collect_laws(laws, store, results, left_out)
    return runs


@without_collector()
def collect(
    plan: pl.DataFrame, store: RunStore, left_out: Mapping[str, tuple[str, str]] = NONE
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(runs, curves) of every planned run of the language model, with the columns of planning/table.py, sorted.

    `left_out` has status and reason of the runs that do not count, whatever is stored. Raises ValueError naming the
    other runs that have no record yet.
    """
    run_ids, results, curves = plan["run_id"].to_list(), {}, []
    windows, layouts = {}, {}
    for batch in _records(sorted(run_ids), store, left_out):
        for run_id, result, record in batch:
            results[run_id] = result
            if "loss" in result["scalars"]:
                arrays = record.arrays()
                documents = layouts.setdefault(arrays["documents"].tobytes(), arrays["documents"])  # one for all
                windows[run_id] = (arrays["losses"], documents)
        curves.append(_sorted_curves([record for *_, record in batch if record]))
    errors = _errors({run_id: windows[run_id] for run_id in run_ids if run_id in windows}, results)
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
    tables = [pl.DataFrame(schema=schema(CURVES)), *curves]
    return runs, pl.concat(tables, how="diagonal_relaxed", rechunk=True)


def collect_laws(
    specs: list[RunSpec], store: RunStore, results: Path, left_out: Mapping[str, tuple[str, str]] = NONE
) -> None:
    """Writes laws/<name>/{runs,curves}.parquet into the folder `results` for every law that `specs` has runs of."""
    (results / "laws").mkdir(parents=True, exist_ok=True)
    for name in sorted({spec.experiment for spec in specs}):
        folder = results / "laws" / name
        folder.mkdir(exist_ok=True)
        runs, curves = collect_law([spec for spec in specs if spec.experiment == name], store, left_out)
        runs.write_parquet(folder / "runs.parquet")
        curves.write_parquet(folder / "curves.parquet")


def collect_law(
    specs: list[RunSpec], store: RunStore, left_out: Mapping[str, tuple[str, str]] = NONE
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(runs, curves) of one law of learning mechanics, sorted by kind, seed and identity.

    Runs have the columns run_id, kind, seed, status, reason, then one a setting (sorted by name, nested ones under
    dotted names, lists as JSON) and one a scalar of the result. Raises ValueError naming the runs that have no record
    yet.
    """
    specs = sorted(specs, key=lambda spec: (spec.kind, spec.seed, spec.run_id))
    results, curves = {}, [NO_CURVES]
    for batch in _records([spec.run_id for spec in specs], store, left_out):
        results |= {run_id: result for run_id, result, _ in batch}
        curves.append(read_curves([record for *_, record in batch if record]))
    rows = []
    for spec in specs:
        result = results[spec.run_id]
        facts = {"run_id": spec.run_id, "kind": spec.kind, "seed": spec.seed}
        facts |= {"status": result["status"], "reason": result["reason"]}
        settings = json.loads(canonical_json(spec.settings))  # sorted, as in plan/runs.parquet
        for part in (flatten(settings), result["scalars"]):
            twice = facts.keys() & part.keys()
            if twice:
                raise ValueError(f"{spec.experiment}: {min(twice)}: two columns of its runs have this name")
            facts |= part
        rows.append(facts)
    return pl.DataFrame(rows, infer_schema_length=None), pl.concat(curves, how="diagonal_relaxed")


def judge_study(params: Params, results: Path, laws: Iterable[str]) -> None:
    """Writes findings.json, metrics.json and fit/ in `results`: what the tables there say of the language model and of
    `laws`."""
    runs, curves = (pl.read_parquet(results / f"{name}.parquet") for name in ("runs", "curves"))
    judgements = {LANGUAGE_MODEL: step(LANGUAGE_MODEL, "judge")(params.fit, runs, curves)}
    judgements |= {name: judge_law(params, name, results) for name in laws}
    write_judgements(judgements, results)


def judge_law(params: Params, name: str, results: Path) -> Judgement:
    """What the runs of the law `name` say, from the tables that stage collect left in `results`.

    Waived runs are no evidence: they make a table of their own, `excluded`. Raises ValueError for a law that cannot do
    without the runs that are waived.
    """
    runs, curves = law_tables(name, results)
    absent, judge = runs.filter(pl.col("status") == WAIVED), step(name, "judge")
    if absent.is_empty() or reads(name) == LANGUAGE_MODEL:
        return judge(params.laws.tested[name], runs, curves)
    try:
        judgement = judge(params.laws.tested[name], runs.filter(pl.col("status") != WAIVED), curves)
    except Exception as error:
        named = ", ".join(absent["run_id"])
        raise ValueError(
            f"waivers.json: {name} cannot be judged without {named} ({type(error).__name__}: {error});"
            f" study retry, or laws.{name}.on: false in params.yaml"
        ) from error
    return replace(judgement, tables=judgement.tables | {"excluded": absent.select(EXCLUDED)})


def law_tables(name: str, results: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(runs, curves) that the law `name` is judged by: its own, or those of the experiment that it READS."""
    source = results if reads(name) == LANGUAGE_MODEL else results / "laws" / name
    return pl.read_parquet(source / "runs.parquet"), pl.read_parquet(source / "curves.parquet")


def write_judgements(judgements: dict[str, Judgement], results: Path) -> None:
    """Writes findings.json, metrics.json and fit/<experiment>/<table>.csv into the folder `results`.

    What they hold of experiments that are not in `judgements` stays.
    """
    said = read_findings(results)
    for name, judgement in judgements.items():
        said[name] = {"findings": [one.as_dict() for one in judgement.findings], "summary": judgement.summary}
        folder = results / "fit" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for table, frame in judgement.tables.items():
            frame.write_csv(folder / f"{table}.csv")
    write_findings(results, experiments=said)
    if LANGUAGE_MODEL in said:
        _write_json(results / "metrics.json", headline(said))


def write_findings(results: Path, **parts: dict[str, dict]) -> None:
    """Writes `parts` (experiments, external) of findings.json in the folder `results`; empty ones go, others stay."""
    path = results / "findings.json"
    held = read_json(path) if path.exists() else {}
    held = {name: part for name, part in (held | parts).items() if part}
    _write_json(path, held)


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_findings(results: Path, part: str = "experiments") -> dict[str, dict]:
    """What findings.json in the folder `results` says of every experiment, or external table; empty where nothing."""
    path = results / "findings.json"
    return read_json(path).get(part, {}) if path.exists() else {}


def _records(
    run_ids: list[str], store: RunStore, left_out: Mapping[str, tuple[str, str]]
) -> Iterator[list[tuple[str, dict, Record | None]]]:
    """Batches of (run_id, its result, the record with its curve): no record where the run is left out or failed."""
    recorded = store.recorded()
    missing = [run_id for run_id in run_ids if run_id not in left_out and run_id not in recorded]
    if missing:
        raise ValueError(
            f"runs/: {len(missing)} of {len(run_ids)} planned runs have no record: {', '.join(missing[:5])}"
        )
    for some in _batches(run_ids, AT_ONCE):
        batch = []
        for run_id in some:
            if run_id in left_out:
                status, reason = left_out[run_id]
                batch.append((run_id, {"status": status, "reason": reason, "scalars": {}}, None))
            else:
                record = store.record(run_id)
                result = record.result()
                batch.append((run_id, result, record if result["status"] in SETTLED else None))
        yield batch


def _sorted_curves(records: list[Record]) -> pl.DataFrame:
    return read_curves(records).sort("run_id", "tokens") if records else NO_CURVES


def _errors(windows: dict[str, tuple[np.ndarray, np.ndarray]], results: dict) -> dict[str, tuple[float, float]]:
    """run_id -> standard errors of its loss, in nats/token: of the level, and of comparisons between the runs.
    `windows` are the losses of each run's validation windows and the document of each.

    Windows of one document are alike, so the document is the independent unit: with x the losses of n windows, the
    variance of their mean is sum over documents of (sum over its windows of (x - mean))^2 / n^2 (cluster-robust). For
    comparisons x is the window's loss over the run's mean, less the average of that ratio over all runs.
    """
    errors = {}
    most = 1 + max((int(groups.max()) for _, groups in windows.values()), default=0)
    for count in {len(losses) for losses, _ in windows.values()}:
        size = max(1, VALUES // max(count, most))
        same = [run_id for run_id, (losses, _) in windows.items() if len(losses) == count]
        shared = np.zeros(count)
        for batch in _batches(same, size):
            shared = np.add.reduce([shared, *_ratios([windows[run_id][0] for run_id in batch])])
        shared /= len(same)
        for batch in _batches(same, size):
            losses, groups = map(np.stack, zip(*(windows[run_id] for run_id in batch), strict=True))
            ratios, means = _ratios(losses), np.array([results[run_id]["scalars"]["loss"] for run_id in batch])
            level, compared = (means * _clustered(x, groups) for x in (ratios, ratios - shared))
            errors |= zip(batch, zip(level.tolist(), compared.tolist(), strict=True), strict=True)
    return errors


def _batches(run_ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(run_ids), size):
        yield run_ids[start : start + size]


def _ratios(losses: Sequence[np.ndarray]) -> np.ndarray:
    """The losses (runs, windows) over the mean of their run."""
    losses = np.asarray(losses, np.float64)
    return losses / losses.mean(1, keepdims=True)


def _clustered(x: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The cluster-robust standard error of the mean of each row of `x` (runs, windows), with the group of each."""
    number = int(groups.max()) + 1
    places = groups + number * np.arange(len(x))[:, None]
    deviations = (x - x.mean(1, keepdims=True)).ravel()
    sums = np.bincount(places.ravel(), weights=deviations, minlength=number * len(x)).reshape(len(x), number)
    return np.sqrt(np.sum(sums**2, 1)) / x.shape[1]
