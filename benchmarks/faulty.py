"""A law one in a hundred of whose runs fails in each of six ways: `WAYS` by the last two digits of its number.

benchmarks/failures.py lays this file among the laws of a copy of the project, where it is found as any law is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.experiments.experiment import RunContext, RunResult
from pipeline.experiments.law import law_run, result
from pipeline.planning.run_spec import RunSpec
from pipeline.storage import OriginLost

WAYS = ("lost", "crash", "memory", "diverged", "bug", "origin")
"""Its worker dies once; dies each time; has memory for half the micro-batch; the loss grows without end; an exception;
the checkpoint that it starts from is gone, once."""
MICRO_BATCH = 8192
"""Tokens of the micro-batch that has no room."""
PARENT = 6
"""The last two digits of a sound run that the run whose origin is lost starts from."""


def plan(num_runs: int) -> list[RunSpec]:
    """So many runs, parents before children."""
    numbers = sorted(range(num_runs), key=lambda number: (number // 100, way_of(number) == "origin"))
    specs: dict[int, RunSpec] = {}
    for number in numbers:
        spec = law_run("faulty", way_of(number), {"number": number}, label=f"run {number}", seconds=0.001)
        parent = specs.get(number // 100 * 100 + PARENT) if way_of(number) == "origin" else None
        specs[number] = replace(spec, parent_id=parent.run_id) if parent else spec
    return list(specs.values())


def way_of(number: int) -> str:
    """How the run of that number fails, or "sound"."""
    return WAYS[number % 100] if number % 100 < len(WAYS) else "sound"


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """The scalar `value`, and a curve of two rows, unless the run fails."""
    number, been_here = spec.settings["number"], Path(context.own)
    first = not been_here.exists()
    if spec.kind in ("lost", "origin"):
        been_here.touch()
    if spec.kind == "crash" or (spec.kind == "lost" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.kind == "origin" and first:
        raise OriginLost(f"{context.origin}: gone")
    if spec.kind == "memory" and context.micro_batch_tokens == MICRO_BATCH:
        raise MemoryError
    if spec.kind == "bug":
        raise RuntimeError(f"run {number} has a bug")
    if spec.kind == "diverged":
        yield result({}, status="diverged", reason="it grew without end")
    else:
        yield result({"value": number}, {"step": np.arange(2), "value": np.array([0.0, number])})
