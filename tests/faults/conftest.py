"""The small study, finished without any disturbance, and copies of it to disturb."""

import shutil
from pathlib import Path

import pytest

from tests.faults.project import STAGES, make_project, run_stage


@pytest.fixture(scope="session")
def quiet(tmp_path_factory) -> Path:
    """The project of the small study, every stage of which has run undisturbed."""
    folder = make_project(tmp_path_factory.mktemp("quiet"))
    for stage in STAGES:
        run_stage(folder, stage)
    return folder


@pytest.fixture
def planned(quiet, tmp_path) -> Path:
    """The small study, planned but not trained."""
    folder = Path(shutil.copytree(quiet, tmp_path / "planned"))
    for name in ("runs", "telemetry", "results", "reports", "scratch"):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture
def finished(quiet, tmp_path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(quiet, tmp_path / "finished"))
