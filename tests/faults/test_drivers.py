"""Drivers that meet, die, or work where they may not write or the clock jumps: the kernel's own means, real studies."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.project import NOWHERE, of_stage, output_of, record, run_stage, say, start, study, wait_for
from tests.test_pipeline import ROOT, environment


def training(folder):
    """A driver that trains: it holds the lock and has stored its first run."""
    driver = start(folder, *of_stage("train"))
    wait_for(lambda: list(folder.glob("runs/*/result.json")) or driver.poll() is not None, "finished run")
    assert driver.poll() is None, driver.stdout.read()
    return driver


def test_a_second_driver_is_told_who_the_first_one_is_and_a_dead_one_holds_nothing(planned, quiet):
    first = training(planned)
    try:
        os.kill(first.pid, signal.SIGSTOP)
        before = record(planned)
        for code, printed in (say(planned, *of_stage("train")), study(planned, "laws", "--run")):
            assert code == 1
            assert printed.count("\n") == 1
            assert f"driver.lock: another driver trains here (process {first.pid} on {os.uname().nodename})" in printed
        code, printed = study(planned, "retry", next(iter(before)).split("/")[1])
        assert code == 1
        assert "another driver trains here" in printed
        assert record(planned) == before
    finally:
        first.kill()
        first.communicate()
    printed = run_stage(planned, "train")
    assert ", 0 reused" not in printed
    assert record(planned).items() >= before.items()
    run_stage(planned, "collect")
    for name in ("runs.parquet", "curves.parquet"):
        assert (planned / "results" / name).read_bytes() == (quiet / "results" / name).read_bytes()
    assert record(planned) == record(quiet)
    assert [path.name for path in (planned / "scratch").iterdir()] == ["driver.lock"]


def test_ctrl_c_takes_one_line_and_what_is_finished_is_kept(planned, quiet):
    """To the driver alone: from a terminal all that it has started get the signal too, and where workers end first Ray
    may abort the driver with words of its own."""
    driver = training(planned)
    below = psutil.Process(driver.pid).children(recursive=True)
    before = record(planned)
    driver.send_signal(signal.SIGINT)
    printed = output_of(driver)
    assert driver.returncode == 130, printed
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == "stopped; finished runs are kept, `make study` goes on"
    assert not psutil.wait_procs(below, timeout=30)[1]
    printed = run_stage(planned, "train")
    assert ", 0 reused" not in printed
    assert record(planned).items() >= before.items()
    assert record(planned) == record(quiet)


@pytest.mark.parametrize(("place", "named"), [(".", "scratch"), ("telemetry", "telemetry")])
def test_a_store_that_is_read_only_is_named_in_one_line(planned, place, named):
    (planned / "telemetry").mkdir()
    (planned / "scratch").mkdir()
    script = f"mount --bind {place} {place} && mount -o remount,ro,bind {place} && cd {planned} && "
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "bash", "-c", script + f"exec {sys.executable} -m stages.train"],
        cwd=planned,
        env=environment(ROOT, MLFLOW_TRACKING_URI=NOWHERE),
        text=True,
        capture_output=True,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine lets no test mount: {done.stderr.splitlines()[0]}")
    assert done.returncode == 1, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("warning: MLflow")]
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert f"{named}" in told[0]
    assert told[0].endswith("Read-only file system")
    assert not (planned / "runs").exists() or not record(planned)


def test_a_clock_that_jumps_by_days_changes_nothing(planned, quiet, tmp_path):
    """The driver and its workers see the wall clock jump by a day every two seconds."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler to make a clock with")
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    code = "import time; a = [(time.sleep(0.02), time.time())[1] for _ in range(250)]; print(max(a) - min(a) > 80000)"
    assert run_with(planned, library, sys.executable, "-c", code).strip() == "True"
    run_with(planned, library, *of_stage("train"))
    run_stage(planned, "collect")
    for name in ("runs.parquet", "curves.parquet"):
        assert (planned / "results" / name).read_bytes() == (quiet / "results" / name).read_bytes()
    assert record(planned) == record(quiet)


def run_with(folder, library, *command):
    """The output of a command before whose C library `library` is loaded."""
    code, printed = say(folder, *command, LD_PRELOAD=str(library))
    assert code == 0, printed
    return printed
