"""Kills parts of the small study at random moments, runs it to its end, and checks that nothing was lost.

    python -m tests.faults.kills --kills 200 --seed 0

Victims are the driver of a stage, its whole process group, a Ray worker and the Ray node; moments are seeded: a part of
the time that the stage takes undisturbed, the writing of a checkpoint, the writing of a record. Prints a table by
victim and stage, and exits with 1 when a finished run changed, a record was half written, or a table of results/ is not
that of the undisturbed study, byte for byte.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.project import (
    STAGES,
    drop_code,
    make_project,
    of_stage,
    output_of,
    record,
    run_stage,
    start,
    workers_of,
)
from tests.test_pipeline import copy_project

VICTIMS = ("driver", "group", "worker", "node")
MOMENTS = ("time", "checkpoint", "record")
EVERY_STAGE = ("prepare", *STAGES)
WEIGHTS = (1, 1, 6, 1, 1, 1)
KILLS_A_STUDY = 6


@dataclass(frozen=True)
class Kill:
    """What is killed, in which stage, and when: after `part` of the stage's time, or in the writing that `moment`
    names."""

    stage: str
    victim: str
    moment: str
    part: float


@dataclass
class Tally:
    """Kills that struck, by (victim, stage), and what went wrong, in words."""

    struck: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Kills by victim and stage."""
        lines = [f"{'victim':<8}" + "".join(f"{stage:>9}" for stage in EVERY_STAGE)]
        for victim in VICTIMS:
            lines.append(f"{victim:<8}" + "".join(f"{self.struck[victim, stage]:>9}" for stage in EVERY_STAGE))
        return "\n".join([*lines, f"{self.struck.total()} kills, {len(self.wrong)} violations", *self.wrong])


def draw_kill(draw: random.Random) -> Kill:
    """One kill; workers and nodes are there in stage train alone, and only there is a checkpoint or record written."""
    stage = draw.choices(EVERY_STAGE, WEIGHTS)[0]
    victim = draw.choice(VICTIMS if stage == "train" else VICTIMS[:2])
    moment = draw.choice(MOMENTS) if stage == "train" else "time"
    return Kill(stage, victim, moment, draw.random())


def measure(folder: Path) -> dict[str, float]:
    """Seconds of every stage of the undisturbed study in `folder`, which this runs."""
    seconds = {}
    for stage in EVERY_STAGE:
        began = time.monotonic()
        if stage == "prepare":
            make_project(folder)
        else:
            run_stage(folder, stage)
        seconds[stage] = time.monotonic() - began
    return seconds


def campaign(quiet: Path, seconds: dict[str, float], root: Path, kills: int, seed: int) -> Tally:
    """Strikes so many times, several times a study, in projects under `root`; `quiet` is the undisturbed one."""
    draw, tally, number = random.Random(seed), Tally(), 0
    while tally.struck.total() < kills:
        folder = copy_project(_new(root / f"study{number}"))
        planned = [draw_kill(draw) for _ in range(min(KILLS_A_STUDY, kills - tally.struck.total()))]
        for stage in EVERY_STAGE:
            for kill in planned:
                if kill.stage == stage:
                    _strike(folder, kill, seconds[stage], draw, tally, quiet)
            run_stage(folder, stage)
            if stage == "prepare":
                drop_code(folder)
        tally.wrong += [f"study {number}: {what}" for what in differences(folder, quiet)]
        shutil.rmtree(folder)
        number += 1
    return tally


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _strike(folder: Path, kill: Kill, seconds: float, draw: random.Random, tally: Tally, quiet: Path) -> None:
    before = _finished(folder)
    process = start(folder, *of_stage(kill.stage))
    due, victims = _due(folder, kill, seconds), []
    while process.poll() is None and not victims:
        victims = _victims(process.pid, kill.victim) if due() else []
        time.sleep(0.0005)
    struck = bool(victims) and _kill(draw.choice(victims), kill.victim)
    printed = output_of(process)
    tally.struck[kill.victim, kill.stage] += struck
    if struck and kill.victim == "worker" and process.returncode:
        tally.wrong.append(f"{kill}: the driver did not go on: {printed}")
    if struck and kill.victim == "node" and "Traceback" in printed:
        tally.wrong.append(f"{kill}: the driver did not end in one line: {printed}")
    after, whole = _finished(folder), record(quiet)
    tally.wrong += [f"{kill}: {name} is gone or has changed" for name in before if before[name] != after.get(name)]
    tally.wrong += [f"{kill}: {name} is half written" for name in after if after[name] != whole.get(name)]
    for run_id in {Path(name).parts[1] for name in after}:
        expected = {name for name in whole if Path(name).parts[1] == run_id}
        if expected - after.keys():
            tally.wrong.append(f"{kill}: record {run_id} lacks {sorted(expected - after.keys())}")


def _due(folder: Path, kill: Kill, seconds: float) -> Callable[[], bool]:
    end, scratch = time.monotonic() + kill.part * seconds, folder / "scratch"
    if kill.moment == "time":
        return lambda: time.monotonic() > end
    pattern = "*/*.tmp" if kill.moment == "checkpoint" else "*.record"
    return lambda: any(scratch.glob(pattern))


def _victims(driver: int, victim: str) -> list[int]:
    try:
        if victim == "worker":
            return [process.pid for process in workers_of(driver)]
        if victim == "node":
            children = psutil.Process(driver).children(recursive=True)
            return [child.pid for child in children if child.name() == "raylet"]
    except psutil.NoSuchProcess:
        return []
    return [driver]


def _kill(pid: int, victim: str) -> bool:
    try:
        (os.killpg if victim == "group" else os.kill)(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _finished(folder: Path) -> dict[str, bytes]:
    return record(folder) if (folder / "runs").exists() else {}


def differences(folder: Path, quiet: Path) -> list[str]:
    """The files of runs/ and results/ that are not in both projects with the same bytes, in words."""
    differing = []
    for place in ("runs", "results"):
        here, there = (
            {str(path.relative_to(root)): path.read_bytes() for path in (root / place).rglob("*") if path.is_file()}
            for root in (folder, quiet)
        )
        differing += [f"{name} differs" for name in sorted(here.keys() | there) if here.get(name) != there.get(name)]
    return differing


def main() -> int:
    """1 when anything was lost or changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills") as root:
        quiet = _new(Path(root) / "quiet")
        seconds = measure(quiet)
        tally = campaign(quiet, seconds, Path(root), arguments.kills, arguments.seed)
    print(tally.table())
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
