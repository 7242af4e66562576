"""A store that is down or broken stops nothing and is told in one line: a closed port, a file that is no store."""

import socket
import time
from pathlib import Path

import pytest

from pipeline.execution.executor import Event
from pipeline.tracking import mirror, run_mirror, track_all
from pipeline.tracking.store import StoreFault, shown
from tests.tracking.conftest import Toy

# MLflow 3.17 uses a loader of SQLAlchemy that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning")
TOLD = "the study goes on, and `make track` mirrors everything later\n"


@pytest.fixture
def dead_server() -> str:
    """The address of a server that is down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://someone:secret@127.0.0.1:{port}"


def test_training_goes_on_without_a_server_and_is_told_once(
    toy: Toy, dead_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_server)
    toy.finish()
    began = time.monotonic()
    with run_mirror(toy.store) as track:
        for spec in toy.specs:
            track(Event("finished", spec))
    mirror("train")
    mirror("plan")
    assert time.monotonic() - began < 10
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("warning: MLflow at http://127.0.0.1:")
    assert "Connection refused" in printed
    assert printed.endswith(TOLD)
    assert "secret" not in printed


def test_track_says_that_the_server_is_down(toy: Toy, dead_server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_server)
    with pytest.raises(StoreFault, match=r"MLflow at http://127\.0\.0\.1.*Connection refused"):
        track_all()


@pytest.mark.parametrize("uri", ["sqlite:///{root}/params.yaml", "sqlite:///{root}/params.yaml/x.db", "nonsense://x"])
def test_a_broken_store_is_left_alone(
    toy: Toy, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(root=toy.root))
    before = (toy.root / "params.yaml").read_bytes()
    toy.plan()
    began = time.monotonic()
    mirror("plan")
    assert time.monotonic() - began < 10
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.endswith(TOLD)
    assert (toy.root / "params.yaml").read_bytes() == before


def test_artifacts_that_cannot_be_written_are_a_fault_of_the_store(toy: Toy, capsys: pytest.CaptureFixture):
    toy.plan()
    (toy.root / "mlartifacts").write_text("a file in the way")
    mirror("plan")
    assert "artifacts of plan" in capsys.readouterr().err
    (toy.root / "mlartifacts").unlink()
    track_all()
    [run] = toy.mirrored("tags.stage = 'plan'")
    assert run.info.status == "FINISHED"


def test_missing_outputs_are_no_fault_of_mlflow(toy: Toy):
    with pytest.raises(FileNotFoundError, match="reports"):
        mirror("report")


def test_findings_that_are_not_json_are_named(toy: Toy):
    toy.finish()
    (toy.root / "results/findings.json").write_text("junk")
    with pytest.raises(ValueError, match=r"results/findings\.json: line 1: not JSON: Expecting value$"):
        track_all()


@pytest.mark.parametrize("name", ["runs", "curves"])
def test_results_that_are_not_parquet_are_named(toy: Toy, name: str):
    toy.finish()
    (toy.root / f"results/{name}.parquet").write_text("junk")
    with pytest.raises(ValueError, match=rf"results/{name}\.parquet: not parquet: "):
        track_all()


def test_an_address_is_shown_without_its_password():
    assert shown("postgresql://me:secret@db:5432/x") == "postgresql://db:5432/x"
    assert shown(f"sqlite:///{Path('/a/b.db')}") == "sqlite:////a/b.db"
