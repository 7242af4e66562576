"""A law whose runs do nothing, so that a pass over them costs what carrying out a plan costs, and nothing else.

benchmarks/orchestration.py lays this file among the laws of a copy of the project, where it is found as any law is.
Its runs are trees of four: a run alone, and a chain of three, so every other run waits for its parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline.experiments.experiment import RunContext, RunResult
from pipeline.experiments.law import law_run, result
from pipeline.planning.run_spec import RunSpec


def plan(num_runs: int) -> list[RunSpec]:
    """So many runs, parents before children."""
    specs: list[RunSpec] = []
    for number in range(num_runs):
        spec = law_run("trivial", "nothing", {"number": number}, label=f"run {number}", seconds=0.001)
        has_parent = number % 4 in (2, 3)
        specs.append(replace(spec, parent_id=specs[-1].run_id) if has_parent else spec)
    return specs


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """The scalar `value`, and a curve of two rows."""
    number = spec.settings["number"]
    yield result({"value": number}, {"step": np.arange(2), "value": np.array([0.0, number])})
