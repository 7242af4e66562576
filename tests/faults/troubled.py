"""A law whose runs end in every way there is: a module that a user might write, bugs included."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.experiments.experiment import Judgement, Progress, RunContext, RunResult
from pipeline.experiments.law import Dials, law_run, result
from pipeline.experiments.verdict import Claim, over_seeds
from pipeline.planning.run_spec import RunSpec

TITLE = "A law in trouble"
LOSSES = 4


class Settings(Dials):
    """What each run does."""

    kinds: list[str]


def plan(settings: Settings, study: object) -> list[RunSpec]:
    """One run for each kind."""
    return [law_run("troubled", kind, {"does": kind}, label=kind, seconds=0.1) for kind in settings.kinds]


def run(spec: RunSpec, context: RunContext) -> Iterator[Progress | RunResult]:
    """Ends as the kind of the run says; `preempted` saves what it has before each of its LOSSES deaths, `crash` does
    what a library does that finds no memory, and `still` once goes to sleep for ever."""
    saved = Path(context.own)
    deaths = len(saved.read_text()) if saved.exists() else 0
    if spec.kind == "preempted" and deaths < LOSSES:
        saved.write_text("x" * (deaths + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.kind == "still" and not saved.exists():
        saved.write_text("x")
        yield Progress(1)
        signal.pause()
    if spec.kind == "crash":
        resource.setrlimit(resource.RLIMIT_DATA, (0, 0))
        os.abort()
    if spec.kind.startswith("large"):
        yield result({"value": 1.0}, {"step": np.arange(4_000_000), "loss": np.ones(4_000_000)})
    elif spec.kind == "diverged":
        yield result({}, status="diverged", reason="it grew without end")
    else:
        values = {"sound": 1.0, "preempted": 1.0, "still": 1.0}
        yield result({"value": values[spec.kind]}, {"step": np.arange(2), "train_loss": np.ones(2)})


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """All values are one; a run without a value that is no result is refused."""
    values = [row["value"] for row in runs.iter_rows(named=True) if row["status"] != "diverged"]
    worst = over_seeds(abs(value - 1.0) for value in values)
    claim = Claim("values", "value = 1", "a test", "", "identity")
    return Judgement([claim.at_most(worst, 1e-12, "They are one.")], {"says": []}, {"values": runs.select("run_id")})


def draw(summary: dict, tables: dict, runs: pl.DataFrame, curves: pl.DataFrame) -> list:
    """No figure."""
    return []
