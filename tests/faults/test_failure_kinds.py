"""Every way a run can end, by a law whose runs end so, and what a user does about it: real commands on real Ray."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.execution.anomalies import RECENT_ROWS, spikes
from pipeline.execution.run_store import RunStore
from pipeline.planning.table import read_plan
from tests.faults.project import make_troubled, of_stage, record, run_stage, say, study
from tests.faults.troubled import LOSSES

STATES = {
    "sound": "finished",
    "bug": "failed",
    "crash": "failed",
    "preempted": "finished",
    "diverged": "diverged",
}


@pytest.fixture(scope="module")
def troubled(quiet, tmp_path_factory):
    """A project with that law, tested once, and what this printed."""
    folder = make_troubled(tmp_path_factory.mktemp("troubled"), *STATES)
    shutil.copytree(quiet / "data", folder / "data")
    return folder, study(folder, "laws", "--run", "troubled")


@pytest.fixture
def copy(troubled, tmp_path):
    return Path(shutil.copytree(troubled[0], tmp_path / "copy"))


def ids(folder):
    """kind -> run_id of the law's runs, from their records."""
    specs = [json.loads(path.read_text()) for path in (folder / "runs").glob("*/spec.json")]
    return {
        spec["kind"]: path.parent.name for spec, path in zip(specs, (folder / "runs").glob("*/spec.json"), strict=True)
    }


def test_every_kind_of_end_is_recorded_as_what_it_is(troubled):
    folder, (code, printed) = troubled
    store, runs = RunStore(folder), ids(folder)
    assert code == 1
    assert {kind: store.status(run_id) for kind, run_id in runs.items()} == STATES
    assert "Traceback" in store.result(runs["bug"])["reason"]
    assert re.search(r"WorkerCrashedError.*\(after 3 attempts\)", store.result(runs["crash"])["reason"])
    assert "failed: 2 of 5 runs" in printed
    for kind in ("bug", "crash"):
        assert re.search(rf"{runs[kind]}  troubled: {kind} +\S+Error", printed)
    assert "study retry RUN_ID" in printed
    assert "study waive RUN_ID --reason TEXT" in printed


def test_losses_are_free_while_something_new_is_saved(troubled):
    """More losses than `train.retries`, each after a new checkpoint."""
    folder, _ = troubled
    telemetry = RunStore(folder).telemetry(ids(folder)["preempted"])
    assert (telemetry["lost"], telemetry["attempts"]) == (LOSSES, LOSSES + 1)
    assert "retries: 2" in (folder / "params.yaml").read_text()
    assert LOSSES > 2


def test_a_worker_that_stands_still_is_given_up_and_its_run_goes_on(quiet, tmp_path):
    folder = make_troubled(tmp_path, "still", "sound")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("retries: 2", "retries: 2, silence_seconds: 3"))
    shutil.copytree(quiet / "data", folder / "data")
    code, printed = study(folder, "laws", "--run", "troubled", STUDY_WORKERS="1")
    assert code == 0, printed
    assert "no news for 3 s: its worker stands still; resumes from its last checkpoint" in printed
    assert RunStore(folder).telemetry(ids(folder)["still"])["lost"] == 1


def test_what_failed_is_left_alone_until_someone_decides(copy):
    runs, before = ids(copy), record(copy)
    code, printed = study(copy, "laws", "--run", "troubled")
    assert code == 1
    assert "5 runs planned: 0 new, 3 reused, 2 held up by a failure" in printed
    assert "failed: 2 of 5 runs" in printed
    assert record(copy) == before

    code, printed = study(copy, "waive", runs["bug"], runs["crash"][:8], "--reason", "not  needed\n<b>here</b>")
    assert code == 0, printed
    assert json.loads((copy / "waivers.json").read_text()) == {
        runs[kind]: "not needed <b>here</b>" for kind in ("bug", "crash")
    }
    code, printed = study(copy, "laws", "--run", "troubled")
    assert code == 0, printed
    assert "5 runs planned: 0 new, 3 reused, 2 waived" in printed
    table = pl.read_parquet(copy / "results/laws/troubled/runs.parquet")
    waived = table.filter(pl.col("status") == "waived")
    assert set(waived["run_id"]) == {runs["bug"], runs["crash"]}
    assert set(waived["reason"]) == {"not needed <b>here</b>"}
    assert pl.read_csv(copy / "results/fit/troubled/excluded.csv").height == 2
    findings = json.loads((copy / "results/findings.json").read_text())
    assert findings["experiments"]["troubled"]["findings"][0]["verdict"] == "holds"

    code, printed = study(copy, "retry", runs["crash"], runs["bug"])
    assert code == 0, printed
    assert json.loads((copy / "waivers.json").read_text()) == {}
    assert RunStore(copy).status(runs["bug"]) is None
    code, printed = study(copy, "laws", "--run", "troubled")
    assert code == 1
    assert "5 runs planned: 2 new, 3 reused" in printed
    assert record(copy).keys() == before.keys()
    assert {kind: RunStore(copy).status(run_id) for kind, run_id in runs.items()} == STATES


def test_wrong_decisions_are_refused_in_one_line_and_change_nothing(copy):
    runs, before = ids(copy), record(copy)
    why = ("--reason", "why")
    refused = {
        ("retry", runs["sound"]): f"RUN_ID: {runs['sound']} is finished: only a failed or a waived run is tried again",
        ("retry", runs["bug"], "zz"): "RUN_ID: 'zz' is no run of this study",
        ("retry", "../" + runs["bug"]): "is no run of this study",
        ("waive", runs["diverged"], *why): f"RUN_ID: {runs['diverged']} is diverged: only a failed run can be waived",
        ("waive", "", *why): "RUN_ID: '' is no run of this study",
        ("waive", runs["bug"], "--reason", "  "): "--reason: an empty text is no reason",
        ("waive", runs["bug"]): "the following arguments are required: --reason",
    }
    for words, message in refused.items():
        code, printed = study(copy, *words)
        assert code in (1, 2)
        assert message in printed
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1
    assert record(copy) == before
    assert (copy / "waivers.json").read_text() == "{}\n"


def test_a_garbled_waiver_is_named(copy):
    for text, message in (("{", "not JSON"), ("[]", "is not an object"), ('{"ab": ""}', "ab: '' is not a reason")):
        (copy / "waivers.json").write_text(text)
        code, printed = study(copy, "laws", "--run", "troubled")
        assert code == 1
        assert re.fullmatch(rf"error: .*waivers\.json: .*{re.escape(message)}.*\n", printed)


def test_the_study_goes_on_without_a_waived_trunk_and_what_grows_from_it(planned, quiet, tmp_path):
    """The last trunk of width 32 has failed: its cooldown falls with it, and all else is what it was."""
    _, specs = read_plan(planned / "plan/runs.parquet")
    (trunk,) = [spec for spec in specs if spec.label.startswith("width 32 trunk") and not _has_trunk(spec, specs)]
    (cooldown,) = [spec for spec in specs if spec.needs == trunk.run_id]
    RunStore(planned).add_failure(
        trunk, "Traceback (most recent call last):\nZeroDivisionError: <script>alert(1)</script>"
    )
    (planned / "waivers.json").write_text(json.dumps({"f" * 16: "mistyped"}))
    code, printed = say(planned, *of_stage("train"))
    assert code == 1
    assert f"waivers.json: {'f' * 16}: no planned run has this id\n" in printed
    assert f"{len(specs)} runs planned: {len(specs) - 2} new, 0 reused, 2 held up by a failure" in printed
    assert f"{trunk.run_id}  {trunk.label}" in printed
    assert f"its parent {trunk.run_id} failed" in printed
    assert RunStore(planned).status(cooldown.run_id) is None

    code, printed = study(planned, "waive", trunk.run_id[:10], "--reason", "its node is gone")
    assert code == 0, printed
    run_stage(planned, "train", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    for stage in ("collect", "fit", "report"):
        run_stage(planned, stage)
    runs = pl.read_parquet(planned / "results/runs.parquet")
    undisturbed = pl.read_parquet(quiet / "results/runs.parquet")
    left = [trunk.run_id, cooldown.run_id]
    told = dict(runs.filter(pl.col("status") == "waived").select("run_id", "reason").iter_rows())
    assert told == {trunk.run_id: "its node is gone", cooldown.run_id: f"its parent {trunk.run_id} is waived"}
    same = ~pl.col("run_id").is_in(left)
    drop = ["loss_se_level", "loss_se_compared"]
    assert runs.filter(same).drop(drop).equals(undisturbed.filter(same).drop(drop))
    page = (planned / "reports/index.html").read_text()
    assert "its node is gone" in page
    assert _metrics(tmp_path / "mlflow.db") >= {"num_waived": 2.0, "num_failed": 0.0, "num_lost": 0.0}.items()

    assert study(planned, "retry", trunk.run_id)[0] == 0
    for stage in ("train", "collect"):
        run_stage(planned, stage)
    for name in ("runs.parquet", "curves.parquet"):
        assert (planned / "results" / name).read_bytes() == (quiet / "results" / name).read_bytes()


def _has_trunk(spec, specs):
    return any(other.needs == spec.run_id and other.kind == "trunk" for other in specs)


def _metrics(database):
    """(name, value) of the last metrics of stage train."""
    import sqlite3

    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select m.key, m.value from latest_metrics m join tags t on m.run_uuid = t.run_uuid"
            " where t.key = 'stage' and t.value = 'train'"
        ).fetchall()
    return set(rows)


def test_planted_spikes_are_found_and_falls_and_noise_are_not():
    draw = np.random.default_rng(0)
    tokens = np.arange(1, 201) * 5120
    for trial in range(60):
        smooth = 2.0 + 3.5 * (1 + tokens / 20_000) ** -0.6
        losses = smooth * (1 + 0.004 * draw.standard_normal(len(tokens)))
        assert not spikes(tokens, losses), f"trial {trial}"
        rows = sorted(draw.choice(np.arange(40, 200, 20), 3, replace=False) + draw.integers(0, 10, 3))
        losses[rows] *= 1.25
        found = spikes(tokens, losses)
        assert [spike.row for spike in found] == rows
        assert all(spike.tokens == tokens[spike.row] and spike.score > 8 for spike in found)


def test_mere_noise_hardly_ever_looks_like_a_spike():
    """A thousand curves of 50 rows: 33,000 rows are judged, and 1.5 are to be expected."""
    draw = np.random.default_rng(5)
    losses = 2.0 + 0.02 * draw.standard_normal((1000, 50))
    assert sum(len(spikes(np.arange(50), curve)) for curve in losses) <= 6


def test_a_curve_without_noise_or_rows_has_no_spike():
    steady = np.ones(50)
    assert not spikes(np.arange(50), steady)
    steady[30] = 1.02
    assert [spike.row for spike in spikes(np.arange(50), steady)] == [30]
    assert not spikes(np.arange(RECENT_ROWS), np.arange(RECENT_ROWS, dtype=float))
    assert not spikes(np.arange(50), np.full(50, np.nan))


def test_the_undisturbed_study_has_no_spikes_and_no_losses(quiet):
    for path in (quiet / "telemetry").glob("*.json"):
        facts = json.loads(path.read_text())
        assert (facts["lost"], facts["halved"], facts["spikes"], facts["notes"]) == (0, 0, 0, [])
