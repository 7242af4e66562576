"""The small study, finished without any disturbance, and copies of it to disturb."""

import shutil
from pathlib import Path

import pytest

from tests.faults.kills import measure
from tests.faults.project import planned_copy


@pytest.fixture(scope="session")
def timed(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """The project of the small study, every stage of which has run undisturbed, and the seconds of each."""
    folder = tmp_path_factory.mktemp("quiet")
    return folder, measure(folder)


@pytest.fixture(scope="session")
def quiet(timed) -> Path:
    """The project of the undisturbed study."""
    return timed[0]


@pytest.fixture
def planned(quiet, tmp_path) -> Path:
    """The small study, planned but not trained."""
    return planned_copy(quiet, tmp_path / "planned")


@pytest.fixture
def finished(quiet, tmp_path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(quiet, tmp_path / "finished"))
