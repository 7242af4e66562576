"""Proves that exports of experiment trackers are read for what they are: wandb tables, and a real MLflow store.

Reference: a law that the runs were drawn from, and the numbers that were logged.
"""

import json

import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from tests.command.known_laws import TRUTH, design, loss

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning")
N, D = design(40)
L = loss(N, D)
STATES = np.resize(["finished"] * 9 + ["crashed"], 40)


def wandb_rows():
    """Rows as wandb's table exports them; a crashed run has the loss it stopped at, or none."""
    rows = []
    for place, (n, d, measured, state) in enumerate(zip(N, D, L, STATES, strict=True)):
        crashed = state == "crashed"
        rows.append(
            {
                "Name": f"run-{place}",
                "State": state,
                "config/n_params": n,
                "config/depth": 12,
                "summary/tokens_seen": d,
                "summary/val_loss": (None if place % 20 == 9 else 3 * measured) if crashed else measured,
                "summary/train/loss": 0.9 * measured,
                "_step": 1000 + place,
            }
        )
    return rows


def nested(row):
    """A row as its JSON is: config and summary are objects."""
    found = {"name": row["Name"], "State": row["State"], "config": {}, "summary": {"_step": row["_step"]}}
    for key, value in row.items():
        part, _, name = key.partition("/")
        if name:
            found[part][name] = {"value": value} if part == "config" else value
    return found


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_wandb_export_gives_its_law_back(study, tmp_path, kind):
    path, rows = tmp_path / f"wandb.{kind}", wandb_rows()
    if kind == "csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        path.write_text("".join(json.dumps(nested(row)) + "\n" for row in rows), encoding="utf-8")
    found = study("fit", path, "--where", "State=finished", "--bootstrap", 0, "--holdout", 0)
    assert found.json["num_runs"] == 36
    assert found.json["notes"] == ["36 of 40 rows chosen by State=finished"]
    for name, value in TRUTH.items():
        assert found.json["params"][name] == pytest.approx(value, rel=1e-5), name
    value = "/value" if kind == "jsonl" else ""
    assert found.json["columns"] == {
        "N": f"config/n_params{value}",
        "D": "summary/tokens_seen",
        "L": "summary/val_loss",
    }


def test_runs_that_crashed_are_told_or_stop_the_fit(study, tmp_path):
    path = tmp_path / "wandb.csv"
    pl.DataFrame(wandb_rows()).write_csv(path)
    found = study("fit", path)
    assert (found.code, found.out) == (1, "")
    assert "wandb.csv: row 10 (first of 2): column 'summary/val_loss': the value is missing" in found.err
    found = study("fit", path, "--where", "summary/val_loss>0", "--bootstrap", 0)
    assert found.json["num_runs"] == 38
    text = next(one["text"] for one in found.json["warnings"] if one["name"] == "unfinished_runs")
    assert "2 crashed of 38 runs" in text
    assert "--where State=finished" in text


def test_rows_keep_their_number_whatever_was_chosen(study, tmp_path):
    rows = wandb_rows()
    rows[30]["summary/val_loss"] = -1.0
    path = tmp_path / "wandb.csv"
    pl.DataFrame(rows).write_csv(path)
    found = study("fit", path, "--where", "State=finished", "--where", "_step>=1020")
    assert "wandb.csv: row 31: column 'summary/val_loss': '-1.0' is not a finite positive number" in found.err


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    """A store of MLflow's own with an experiment `sweep`: 16 finished runs of the known law, 2 failed, 1 running."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("sweep", artifact_location=tmp_path.as_uri())
    for place in range(19):
        run = client.create_run(experiment, tags={"recipe": "muon"}).info.run_id
        logged = {"tokens_seen": D[place], "val/loss": 9.0, "train_loss": 0.9 * L[place]}
        metrics = [Metric(name, float(value), 0, 0) for name, value in logged.items()]
        metrics.append(Metric("val/loss", float(L[place]), 1, 1))
        client.log_batch(run, metrics=metrics, params=[Param("n_params", repr(float(N[place])))])
        if place < 18:
            client.set_terminated(run, "FINISHED" if place < 16 else "FAILED")


def test_an_mlflow_experiment_is_a_table_of_its_finished_runs(study, mlflow_store):
    found = study("fit", "mlflow:sweep", "--where", "tags.recipe=muon", "--bootstrap", 0, "--holdout", 0)
    assert found.json["columns"] == {"N": "params.n_params", "D": "metrics.tokens_seen", "L": "metrics.val/loss"}
    assert found.json["num_runs"] == 16
    assert found.json["notes"] == ["2 failed, 1 running: runs of mlflow:sweep that have not finished are left out"]
    for name, value in TRUTH.items():
        assert found.json["params"][name] == pytest.approx(value, rel=1e-4), name
    away = study("fit", "mlflow:elsewhere")
    assert (away.code, away.out) == (1, "")
    assert "mlflow:elsewhere at sqlite:///" in away.err
    assert "no such experiment" in away.err


def test_an_mlflow_store_that_is_not_there_is_not_made(study, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    found = study("fit", "mlflow:sweep")
    assert "none.db: no such database; set MLFLOW_TRACKING_URI" in found.err
    assert not (tmp_path / "none.db").exists()
