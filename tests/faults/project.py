"""A project of its own for every disturbance: the code of this one with the small study, carried out stage by stage."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.small_study import SMALL
from tests.test_pipeline import ROOT, copy_project, environment

STAGES = ("plan", "train", "collect", "fit", "report")
NOWHERE = "http://127.0.0.1:9"
"""An address at which no MLflow answers, which is known at once."""
LAW = Path(__file__).with_name("troubled.py")


def make_project(folder: Path) -> Path:
    """`folder` with the small study, prepared."""
    copy_project(folder)
    run_stage(folder, "prepare")
    drop_code(folder)
    return folder


def drop_code(folder: Path) -> None:
    """Takes the code out of a project that is prepared: it uses that of ROOT from then on, compiled already."""
    for name in ("pipeline", "stages", "tests"):
        shutil.rmtree(folder / name)


def planned_copy(finished: Path, folder: Path) -> Path:
    """`folder` with the study of `finished`, planned but not trained."""
    shutil.copytree(finished, folder)
    for name in ("runs", "telemetry", "results", "reports", "scratch"):
        shutil.rmtree(folder / name)
    return folder


def make_troubled(folder: Path, *kinds: str) -> Path:
    """`folder` with one more law, a run of which ends as each of `kinds` says, beside the small study."""
    copy_project(folder)
    dials = f"laws: {{troubled: {{kinds: [{', '.join(kinds)}]}}}}"
    (folder / "params.yaml").write_text(SMALL.replace("laws: {}", dials))
    (folder / "pipeline/experiments/laws" / LAW.name).write_text(LAW.read_text())
    return folder


def start(folder: Path, *command: str, output: int | IO = subprocess.PIPE, **extra: str) -> subprocess.Popen:
    """A command that runs in the project, in a process group of its own, and prints to `output`."""
    code = {} if (folder / "pipeline").exists() else {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, **{"MLFLOW_TRACKING_URI": NOWHERE} | code | extra),
        text=True,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def say(folder: Path, *command: str, **extra: str) -> tuple[int, str]:
    """(exit code, output) of a command in the project."""
    process = start(folder, *command, **extra)
    printed = output_of(process)
    return process.returncode, printed


def output_of(process: subprocess.Popen) -> str:
    """What a command prints until it ends; it is killed, with its group, when waiting for it is cut off, and what it
    printed by then is printed here."""
    try:
        return process.communicate()[0]
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        print(process.communicate()[0])
        raise


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


def wait_for(condition, what, seconds=120.0):
    """Waits until `condition()` is true; fails naming `what` after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"after {seconds:.0f} s there is still no {what}")
        time.sleep(0.01)
