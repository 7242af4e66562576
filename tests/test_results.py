"""Collecting: selected by the plan, sorted, with standard errors that agree with a bootstrap over documents."""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import CorpusFacts, RunResult
from pipeline.experiments.language_model.plan import describe, plan
from pipeline.params import Replicates, SizesByTokens, read_params
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import CURVES, MEASURED, PLANNED, plan_table, schema
from pipeline.results import collect, collect_laws, read_findings

STUDY = read_params().language_model
GRID = SizesByTokens(kind="sizes_by_tokens", widths=[32, 64], tokens=[100_000, 200_000])
SPECS = plan(STUDY.model_copy(update={"grid": GRID, "replicates": Replicates()}), CorpusFacts("digest", 256, 10**7))
PLAN = plan_table(SPECS, [describe(spec, 0) for spec in SPECS]).drop("spec")
DOCUMENTS = np.repeat(np.arange(60), np.arange(60) % 9 + 1).astype(np.int32)


def result(spec, level):
    """Losses of windows with an effect of the document, one of the window, and a level of the run."""
    shared, own = np.random.default_rng(0), np.random.default_rng(abs(hash(spec.label)) % 2**32)
    effect = shared.normal(1, 0.2, 60) + own.normal(0, 0.05, 60)
    losses = level * 64 * (effect[DOCUMENTS] + own.normal(0, 0.1, len(DOCUMENTS)))
    curve = {name: np.arange(1.0, 4.0) for name in list(CURVES)[1:]}
    arrays = {"losses": losses.astype(np.float32), "bytes": np.full(len(losses), 64), "documents": DOCUMENTS}
    scalars = {"loss": float(losses.mean() / 64), "bits_per_byte": 1.0} if spec.kind != "trunk" else {}
    return RunResult("finished", None, scalars, curve, arrays, 0, 100)


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path)
    for place, spec in enumerate(SPECS):
        folder = store.scratch(spec.run_id)
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(b"weights")
        store.add(spec, result(spec, 2.0 + 0.1 * place), {"seconds": 1.0})
    return store


def test_the_tables_have_their_schema_and_order(store):
    runs, curves = collect(PLAN, store)
    assert dict(runs.schema) == schema(PLANNED, MEASURED)
    assert dict(curves.schema) == schema(CURVES)
    assert runs.select("N_non_embedding", "D").equals(runs.select("N_non_embedding", "D").sort("N_non_embedding", "D"))
    assert runs["loss"].null_count() == PLAN.filter(pl.col("kind") == "trunk").height


def test_runs_outside_the_plan_are_left_out(store):
    stranger = replace(SPECS[0], seed=9)
    store.scratch(stranger.run_id).mkdir(parents=True)
    (store.scratch(stranger.run_id) / "checkpoint.safetensors").write_bytes(b"weights")
    store.add(stranger, result(stranger, 1.0), {"seconds": 1.0})
    runs, _ = collect(PLAN, store)
    assert set(runs["run_id"]) == {spec.run_id for spec in SPECS}


def test_the_tables_of_a_law_are_the_same_bytes_from_its_planner_and_from_the_plan(tmp_path):
    """`study laws` has the specs as the planner made them, the stage as they were read back from plan/runs.parquet."""
    settings = [{"width": 8, "rates": {"slow": 0.1, "fast": [1, 2, 3]}, "depth": depth} for depth in (1, 2)]
    made = [RunSpec("a_law", "run", one, 0, "", "code") for one in settings]
    store = RunStore(tmp_path)
    for spec in made:
        store.add(spec, RunResult("finished", None, {"b": 1.0, "a": 2.0}, {}, {}, 0, 0, False), {"seconds": 1.0})
    collect_laws(made, store, tmp_path / "made")
    collect_laws([RunSpec.from_json(spec.to_json()) for spec in made], store, tmp_path / "read")
    for name in ("runs", "curves"):
        path = f"laws/a_law/{name}.parquet"
        assert (tmp_path / "made" / path).read_bytes() == (tmp_path / "read" / path).read_bytes()


def test_findings_that_are_not_json_are_named(tmp_path):
    (tmp_path / "findings.json").write_text("{}\njunk")
    with pytest.raises(ValueError, match=r"findings\.json: line 2: not JSON: Extra data$"):
        read_findings(tmp_path)


def test_a_planned_run_without_a_record_is_named(store):
    lost = SPECS[-1].run_id
    shutil.rmtree(store.folder(lost))
    with pytest.raises(ValueError, match=f"1 of {len(SPECS)} planned runs have no record: {lost}"):
        collect(PLAN, store)


def test_a_failed_run_is_collected_with_its_reason(store):
    store.add_failure(SPECS[-1], "Traceback\nKeyError: 'x'")
    runs, _ = collect(PLAN, store)
    failed = runs.filter(pl.col("status") == "failed")
    assert failed["run_id"].to_list() == [SPECS[-1].run_id]
    assert "KeyError" in failed["reason"].item()
    assert failed["loss"].item() is None


def test_standard_errors_agree_with_a_bootstrap_over_documents(store):
    runs, _ = collect(PLAN, store)
    points = runs.filter(pl.col("loss").is_not_null())
    losses = {run_id: store.arrays(run_id)["losses"].astype(float) / 64 for run_id in points["run_id"]}
    generator = np.random.default_rng(1)
    groups = [np.flatnonzero(DOCUMENTS == document) for document in range(60)]
    draws = [np.concatenate([groups[i] for i in generator.integers(0, 60, 60)]) for _ in range(4000)]
    means = {run_id: np.array([x[draw].mean() for draw in draws]) for run_id, x in losses.items()}
    relative = {run_id: mean / losses[run_id].mean() for run_id, mean in means.items()}
    shared = np.mean(list(relative.values()), axis=0)
    for row in points.iter_rows(named=True):
        # The linearised error of a ratio and 4,000 resamples of 60 documents: agreement to a tenth.
        assert row["loss_se_level"] == pytest.approx(means[row["run_id"]].std(), rel=0.1)
        assert row["loss_se_compared"] == pytest.approx(row["loss"] * (relative[row["run_id"]] - shared).std(), rel=0.1)
        assert row["loss_se_compared"] < row["loss_se_level"] / 2


def test_standard_errors_do_not_depend_on_how_many_runs_are_computed_at_once(store, monkeypatch):
    runs, _ = collect(PLAN, store)
    monkeypatch.setattr("pipeline.results.VALUES", 1)
    assert collect(PLAN, store)[0].equals(runs)
