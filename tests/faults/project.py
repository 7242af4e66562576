"""A project of its own for every disturbance: the code of this one with the small study, carried out stage by stage."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.small_study import SMALL
from tests.test_pipeline import copy_project, environment

STAGES = ("prepare", "plan", "train", "collect", "fit", "report")
NOWHERE = "http://127.0.0.1:9"
"""An address at which no MLflow answers, which is known at once."""
LAW = Path(__file__).with_name("troubled.py")


def make_project(folder: Path, params: str = SMALL, law: Path | None = None) -> Path:
    """`folder` with the code, the parameters `params` and, if given, one more `law`."""
    copy_project(folder)
    (folder / "params.yaml").write_text(params)
    if law is not None:
        (folder / "pipeline/experiments/laws" / law.name).write_text(law.read_text())
    return folder


def start(folder: Path, *command: str, **extra: str) -> subprocess.Popen:
    """A command that runs in the project, in a process group of its own."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, **{"MLFLOW_TRACKING_URI": NOWHERE} | extra),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def say(folder: Path, *command: str, **extra: str) -> tuple[int, str]:
    """(exit code, output) of a command in the project."""
    process = start(folder, *command, **extra)
    printed, _ = process.communicate()
    return process.returncode, printed


def run_stage(folder: Path, stage: str, **extra: str) -> str:
    """The output of one stage, which must end well."""
    code, printed = say(folder, *of_stage(stage), **extra)
    assert code == 0, printed
    return printed


def of_stage(stage: str) -> tuple[str, ...]:
    """The command line of a stage."""
    return sys.executable, "-m", f"stages.{stage}"


def study(folder: Path, *words: str, **extra: str) -> tuple[int, str]:
    """(exit code, output) of a `study` command."""
    return say(folder, sys.executable, "-c", "from pipeline.command import main; main()", *words, **extra)


def record(folder: Path) -> dict[str, bytes]:
    """Every byte of the run store by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "runs").rglob("*")) if p.is_file()}


def workers_of(driver: int) -> list[psutil.Process]:
    """The processes below `driver` that are carrying out a run at this moment."""
    return [child for child in psutil.Process(driver).children(recursive=True) if child.name() == "ray::_events"]
