"""MLflow holds what the files of a study say, each thing once: against values written through the real run store."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from pipeline.execution.digests import DIGESTS, seal
from pipeline.execution.executor import Event
from pipeline.experiments.law import law_run, result
from pipeline.storage import Damaged
from pipeline.tracking import mirror, mirror_beside, run_mirror, track_all
from pipeline.tracking.dvc_hash import dvc_hash
from pipeline.tracking.stage_records import OUTPUTS
from tests.tracking.conftest import MANIFEST, NUM_ROWS, TELEMETRY, Toy

# MLflow 3.17 uses a loader of SQLAlchemy that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning")


def test_a_training_run_is_there_with_its_curve_and_can_be_traced_back(toy: Toy):
    toy.finish()
    mirror("train")
    spec = next(spec for spec in toy.specs if spec.kind == "cooldown")
    [run] = toy.mirrored(f"tags.run_id = '{spec.run_id}'")
    assert run.info.run_name == spec.label
    assert run.info.status == "FINISHED"
    assert run.data.params["width"] == "32"
    assert run.data.params["D"] == str(spec.settings["course"]["end"])
    assert int(run.data.params["N_non_embedding"]) == 12 * spec.settings["model"]["depth"] * 32**2
    assert run.data.params["optimizer.kind"] == spec.settings["optimizer"]["kind"]
    assert run.data.params["kind"] == "cooldown"
    assert (run.data.metrics["loss"], run.data.metrics["bits_per_byte"]) == (3.0, 4.3)
    assert run.data.metrics["system/seconds"] == 2.0
    assert run.data.tags["telemetry/versions.torch"] == "2.13.0"
    assert run.data.tags["dvc_hash"] == dvc_hash(toy.root / "runs" / spec.run_id / "result.json")
    assert Path(run.data.tags["checkpoint"]).read_bytes() == spec.run_id.encode()
    assert run.info.end_time - run.info.start_time == 2000
    curve = MlflowClient(toy.uri).get_metric_history(run.info.run_id, "train_loss")
    assert [(x.step, x.value) for x in curve] == [(10 * (i + 1), 5.0 - i / 1000) for i in range(NUM_ROWS)]
    [parent] = toy.mirrored("tags.stage = 'train'")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.metrics["num_finished"] == 3
    assert parent.data.metrics["num_diverged"] == 1
    assert parent.data.metrics["total_seconds"] == 8.0


def test_a_training_run_says_what_it_found_on_which_data(toy: Toy):
    toy.finish()
    mirror("train")
    spec = next(spec for spec in toy.specs if spec.kind == "cooldown")
    [run] = toy.mirrored(f"tags.run_id = '{spec.run_id}'")
    N, D = 12 * spec.settings["model"]["depth"] * 32**2, spec.settings["course"]["end"]
    said = f"N = {N:,} non-embedding parameters, D = {D:,} tokens: validation loss 3.0000 nats/token"
    assert run.data.tags["mlflow.note.content"] == said
    assert run.data.tags["mlflow.source.name"] == "stages/train.py"
    [used] = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("corpus", MANIFEST["digest"][:36])
    experiment = MlflowClient(toy.uri).get_experiment_by_name("toy")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "scaling study" in experiment.tags["mlflow.note.content"]


def test_runs_of_laws_stand_in_an_experiment_of_their_own(toy: Toy):
    toy.finish()
    spec = law_run("grokking", "network", {"width": 3}, label="grokking: network", seconds=1.0)
    toy.store.add(spec, result({"value": 2.0}, {"step": np.arange(3), "loss": np.ones(3)}), TELEMETRY)
    assert track_all() == 11
    assert track_all() == 0
    client = MlflowClient(toy.uri)
    [run] = client.search_runs([client.get_experiment_by_name("toy laws").experiment_id])
    assert (run.data.tags["run_id"], run.data.metrics["value"]) == (spec.run_id, 2.0)
    assert {run.data.tags["run_id"] for run in toy.training_runs()} == {one.run_id for one in toy.specs}


def test_a_diverged_run_is_a_failed_one_with_its_reason(toy: Toy):
    toy.plan()
    toy.train(toy.specs[-1])
    with run_mirror(toy.store) as track:
        track(Event("diverged", toy.specs[-1]))
    [run] = toy.training_runs()
    assert run.info.status == "FAILED"
    assert (run.data.tags["status"], run.data.tags["reason"]) == ("diverged", "loss is nan after 7,000 tokens")
    assert "checkpoint" not in run.data.tags
    assert "loss" not in run.data.metrics


def test_runs_are_mirrored_as_they_end_and_once(toy: Toy):
    toy.plan()
    with run_mirror(toy.store) as track:
        for spec in toy.specs[:2]:
            track(Event("started", spec))
            toy.train(spec)
            track(Event("finished", spec))
            track(Event("finished", spec))
    assert {run.data.tags["run_id"] for run in toy.training_runs()} == {spec.run_id for spec in toy.specs[:2]}
    [parent] = toy.mirrored("tags.stage = 'train'")
    assert parent.info.status == "RUNNING"
    for spec in toy.specs[2:]:
        toy.train(spec)
    mirror("train")
    assert [run.data.tags["run_id"] for run in toy.training_runs()] == [
        spec.run_id for spec in sorted(toy.specs, key=lambda spec: spec.label)
    ]
    [parent] = toy.mirrored("tags.stage = 'train'")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in toy.training_runs()} == {parent.info.run_id}


def test_a_fault_of_ours_in_the_thread_is_raised_at_the_end(toy: Toy):
    toy.plan()
    with pytest.raises(Damaged, match=r"digests\.json: No such file"), run_mirror(toy.store) as track:
        track(Event("finished", toy.specs[0]))


def test_every_stage_says_what_it_made(toy: Toy, capsys: pytest.CaptureFixture):
    toy.finish()
    for stage in OUTPUTS:
        mirror(stage)
    runs = {run.info.run_name: run for run in toy.mirrored("tags.stage LIKE '%'")}
    assert list(runs) == sorted(OUTPUTS)
    for stage, run in runs.items():
        assert {path: run.data.tags[f"dvc_hash/{path}"] for path in OUTPUTS[stage]} == {
            path: dvc_hash(toy.root / path) for path in OUTPUTS[stage]
        }
    [dataset] = runs["prepare"].inputs.dataset_inputs
    assert dataset.dataset.digest == MANIFEST["digest"][:36]
    assert json.loads(dataset.dataset.source)["sources"] == MANIFEST["sources"]
    assert runs["prepare"].data.metrics["train.tokens"] == 2_000_000
    assert runs["plan"].data.metrics["num_runs"] == 4
    planned = pl.read_parquet(toy.root / "plan/runs.parquet")
    assert runs["plan"].data.metrics["flops"] == planned["flops_own"].sum()
    fit = runs["fit"].data
    assert fit.metrics["language_model.laws.additive.params.alpha"] == 0.4
    assert fit.metrics["language_model.laws.additive.standard_errors.E"] == 0.05
    assert fit.metrics["language_model.laws.additive.intervals.E.low"] == 0.8
    assert fit.metrics["language_model.holdout.laws.additive.rms"] == 0.011
    assert fit.metrics["external.theirs.params.alpha"] == 0.35
    assert fit.metrics["external.theirs.intervals.alpha.high"] == 0.4
    assert fit.params["language_model.chosen"] == "additive"
    assert fit.tags["language_model.findings.power law _N_ D_.verdict"] == "holds"
    for stage, path in (
        ("prepare", "manifest.json"),
        ("plan", "plan/runs.csv"),
        ("collect", "results/runs.csv"),
        ("fit", "results/findings.json"),
        ("fit", "results/fit/language_model/points.csv"),
        ("report", "reports/index.html"),
        ("report", "reports/figures/loss.svg"),
    ):
        run_id = runs[stage].info.run_id
        content = Path(download_artifacts(run_id=run_id, artifact_path=path, tracking_uri=toy.uri)).read_bytes()
        if stage == "plan":
            assert content == planned.drop("spec").write_csv().encode()
        else:
            assert content == (toy.root / ("data/tokens" if stage == "prepare" else "") / path).read_bytes()
    assert capsys.readouterr().err == ""


def test_the_last_stage_is_mirrored_after_the_block_and_the_others_beside_it(toy: Toy):
    toy.finish()
    with mirror_beside("collect", "fit", "report"):
        (toy.root / "reports/index.html").write_text("<h1>written in the block</h1>")
    runs = {run.info.run_name: run for run in toy.mirrored("tags.stage LIKE '%'")}
    assert list(runs) == ["collect", "fit", "report"]
    assert runs["report"].data.tags["dvc_hash/reports"] == dvc_hash(toy.root / "reports")


def test_a_block_that_fails_leaves_its_stage_unmirrored(toy: Toy):
    toy.finish()
    with pytest.raises(ValueError, match="no page"), mirror_beside("collect", "report"):
        raise ValueError("no page")
    assert [run.info.run_name for run in toy.mirrored("tags.stage LIKE '%'")] == ["collect"]


def test_a_mirror_beside_a_stage_that_fails_is_told(toy: Toy, capfd: pytest.CaptureFixture):
    toy.finish()
    (toy.root / "results/runs.csv").unlink()
    with pytest.raises(ChildProcessError, match="make track"), mirror_beside("collect", "report"):
        pass
    assert "results/runs.csv: No such file" in capfd.readouterr().err


def test_nothing_is_written_twice_and_a_lost_store_comes_back_the_same(
    toy: Toy, capsys: pytest.CaptureFixture, empty_store: Path
):
    toy.finish()
    assert track_all() == 10
    first = {run.data.tags["run_id"]: run for run in toy.training_runs()}
    assert track_all() == 0
    for stage in OUTPUTS:
        mirror(stage)
    assert len(toy.mirrored("")) == 10
    (toy.root / "mlflow.db").write_bytes(empty_store.read_bytes())
    assert track_all() == 10
    again = {run.data.tags["run_id"]: run for run in toy.training_runs()}
    assert first.keys() == again.keys() == {spec.run_id for spec in toy.specs}
    for run_id, run in first.items():
        assert run.data.metrics == pytest.approx(again[run_id].data.metrics, nan_ok=True)
        assert run.data.params == again[run_id].data.params
        assert run.info.status == again[run_id].info.status
        assert (run.info.start_time, run.info.end_time) == (again[run_id].info.start_time, again[run_id].info.end_time)
    assert [line.partition("toy: ")[2] for line in capsys.readouterr().out.splitlines()] == [
        f"holds 4 training runs and the stages {', '.join(OUTPUTS)}; {count} MLflow runs written now"
        for count in (10, 0, 10)
    ]


def test_a_changed_output_is_a_new_run_of_its_stage(toy: Toy):
    toy.publish()
    mirror("report")
    (toy.root / "reports/index.html").write_text("<h1>more</h1>")
    mirror("report")
    mirror("report")
    assert len(toy.mirrored("tags.stage = 'report'")) == 2


def test_a_run_that_was_cut_off_or_trained_again_is_replaced(toy: Toy):
    toy.plan()
    toy.train(toy.specs[0])
    client = MlflowClient(toy.uri)
    experiment_id = client.create_experiment("toy", artifact_location=(toy.root / "mlartifacts").as_uri())
    client.create_run(experiment_id, tags={"run_id": toy.specs[0].run_id})
    track_all()
    [run] = toy.training_runs()
    assert run.info.status == "FINISHED"
    folder = toy.store.folder(toy.specs[0].run_id)
    (folder / "result.json").write_text(
        json.dumps({"status": "finished", "reason": None, "done": 9, "scalars": {"loss": 2.5}})
    )
    (folder / DIGESTS).unlink()
    seal(folder)
    track_all()
    [run] = toy.training_runs()
    assert run.data.metrics["loss"] == 2.5


def test_a_clone_with_results_but_without_runs_gets_the_same_training_runs(toy: Toy):
    toy.finish()
    for folder in ("runs", "plan", "telemetry", "data"):
        (toy.root / folder).rename(toy.root / f"elsewhere-{folder}")
    assert track_all() == 7
    runs = toy.training_runs()
    assert {run.data.tags["run_id"] for run in runs} == {spec.run_id for spec in toy.specs}
    losses = {run.data.params["D"]: run.data.metrics["loss"] for run in runs if "loss" in run.data.metrics}
    assert set(losses.values()) == {3.0}
    assert all(run.data.tags["mirrors"] == "results/runs.parquet" for run in runs)
    history = MlflowClient(toy.uri).get_metric_history(runs[0].info.run_id, "train_loss")
    assert len(history) == NUM_ROWS
    assert track_all() == 0
    for folder in ("runs", "plan", "telemetry", "data"):
        (toy.root / f"elsewhere-{folder}").rename(toy.root / folder)
    assert track_all() == 7
    assert len(toy.training_runs()) == 4
    assert not any("mirrors" in run.data.tags for run in toy.training_runs())


def test_runs_of_an_earlier_plan_stay(toy: Toy):
    toy.finish()
    track_all()
    smaller = Toy(toy.root, toy.specs[:2])
    smaller.plan()
    mirror("train")
    assert len(toy.training_runs()) == 4
    assert len(toy.mirrored("tags.stage = 'train'")) == 2


def test_what_was_mirrored_last_is_not_searched_for_but_a_run_deleted_there_comes_back_with_track(toy: Toy):
    toy.plan()
    for spec in toy.specs[:3]:
        toy.train(spec)
    mirror("train")
    gone = toy.training_runs()[0]
    MlflowClient(toy.uri).delete_run(gone.info.run_id)
    with run_mirror(toy.store) as track:
        toy.train(toy.specs[3])
        track(Event("diverged", toy.specs[3]))
    mirror("plan", "train")
    assert len(toy.training_runs()) == 3
    assert track_all() == 1
    assert {run.data.tags["run_id"] for run in toy.training_runs()} == {spec.run_id for spec in toy.specs}


def test_runs_that_came_to_disk_unmirrored_are_found_beside_those_of_a_training(toy: Toy):
    toy.plan()
    toy.train(toy.specs[0])
    mirror("train")
    toy.train(toy.specs[1])  # and its driver died before MLflow had it
    with run_mirror(toy.store) as track:
        toy.train(toy.specs[2])
        track(Event("finished", toy.specs[2]))
    mirror("train")
    assert {run.data.tags["run_id"] for run in toy.training_runs()} == {spec.run_id for spec in toy.specs[:3]}
