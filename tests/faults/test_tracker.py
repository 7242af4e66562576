"""A real `mlflow server` that is killed while the study trains and comes back later: nothing is missing in the end."""

import json
import os
import signal
import socket
import subprocess
import sys
from urllib.error import URLError
from urllib.request import Request, urlopen

import polars as pl
import pytest

from tests.faults.project import of_stage, output_of, record, run_stage, start, study, wait_for
from tests.test_pipeline import environment


@pytest.fixture
def tracker(tmp_path):
    """A function that starts the server, always at the same address and on the same store; its processes end with the
    test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, begun = f"http://127.0.0.1:{port}", []

    def begin():
        store = [
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/tracker.db",
            "--artifacts-destination",
            f"{tmp_path}/kept",
        ]
        command = [sys.executable, "-m", "mlflow", "server", *store, "--port", str(port), "--workers", "1"]
        with (tmp_path / "tracker.log").open("a") as log:
            server = subprocess.Popen(
                command, cwd=tmp_path, env=environment(tmp_path), stdout=log, stderr=log, start_new_session=True
            )
        begun.append(server)
        wait_for(lambda: answers(f"{address}/health"), "answer of the server")
        return address, server

    yield begin
    for server in begun:
        if server.poll() is None:
            end(server)


def answers(url):
    try:
        with urlopen(url, timeout=2) as response:
            return response.status == 200
    except (URLError, OSError):
        return False


def end(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def tracked(address):
    """run_id -> status of the training runs that the server holds, asked over its own protocol."""
    found = ask(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=small")
    body = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 1000}
    runs = ask(f"{address}/api/2.0/mlflow/runs/search", body).get("runs", [])
    tags = [({tag["key"]: tag["value"] for tag in run["data"]["tags"]}, run["info"]["status"]) for run in runs]
    names = [one["run_id"] for one, _ in tags if "run_id" in one]
    assert len(names) == len(set(names))
    return {one["run_id"]: status for one, status in tags if "run_id" in one}


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as response:
        return json.load(response)


def test_a_tracker_killed_and_restarted_misses_nothing_after_track(tracker, planned, quiet):
    address, server = tracker()
    driver = start(planned, *of_stage("train"), MLFLOW_TRACKING_URI=address)
    wait_for(lambda: list(planned.glob("runs/*/result.json")), "finished run")
    end(server)
    printed = output_of(driver)
    assert driver.returncode == 0, printed
    assert "the study goes on, and `make track` mirrors everything later" in printed
    assert record(planned) == record(quiet)

    again, _ = tracker()
    assert again == address
    before = tracked_or_none(address)
    for stage in ("collect", "fit", "report"):
        run_stage(planned, stage)
    code, printed = study(planned, "track", MLFLOW_TRACKING_URI=address)
    assert code == 0, printed
    expected = dict.fromkeys(pl.read_parquet(planned / "plan/runs.parquet")["run_id"], "FINISHED")
    assert len(before) < len(expected)
    assert tracked(address) == expected


def tracked_or_none(address):
    """As `tracked`; empty before the study's first word reached the server."""
    try:
        return tracked(address)
    except URLError:
        return {}
