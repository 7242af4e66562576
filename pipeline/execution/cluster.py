"""Runs on a Ray cluster: this machine's own, or the one RAY_ADDRESS names. Nothing else imports ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from pipeline.execution.failures import Failure, failure_of
from pipeline.experiments.experiment import Progress, RunContext, RunResult, step
from pipeline.planning.run_spec import RunSpec

LOST = (WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)


def num_workers() -> int:
    """Runs trained at once on this machine: STUDY_WORKERS, else its cores.

    Raises ValueError when STUDY_WORKERS is not a positive whole number.
    """
    text = os.environ.get("STUDY_WORKERS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"environment: STUDY_WORKERS: {text!r} is not a positive whole number")
    return int(text)


@dataclass(frozen=True)
class Ended:
    """A run that ended with a `result`, `seconds` after its worker had begun it."""

    result: RunResult
    seconds: float


@dataclass
class Cluster:
    """A Ray session for the length of a `with` block.

    `slots` says how many runs fit at once by what each of them gets: a GPU, where there is any, for training that is
    counted in FLOPs; a core for everything else.
    """

    slots: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        address = os.environ.get("RAY_ADDRESS")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address:
            project = str(Path(__file__).resolve().parents[1])
            ray.init(address=address, runtime_env={"py_modules": [project]}, **options)
        else:
            # Ray starts its workers at niceness 15: beside any other program they would stand still.
            system = {"worker_niceness": 0}
            ray.init(address="local", num_cpus=num_workers(), include_dashboard=False, _system_config=system, **options)
        resources = ray.cluster_resources()
        self.slots = {kind: int(resources.get(kind, 0)) for kind in ("CPU", "GPU")}
        if self.slots["CPU"] < 1:
            ray.shutdown()
            raise ValueError(f"environment: RAY_ADDRESS: {address!r} has no CPU for a run: {resources}")
        return self

    def __exit__(self, *error: object) -> None:
        ray.shutdown()

    def place(self, spec: RunSpec) -> str:
        """What the run gets: "GPU" or "CPU"."""
        return "GPU" if self.slots["GPU"] and spec.flops else "CPU"

    def submit(self, spec: RunSpec, context: RunContext) -> ray.ObjectRefGenerator:
        """A handle on the run, which starts as soon as a worker is free."""
        return (_on_gpu if self.place(spec) == "GPU" else _on_cpu).remote(spec, context)

    def cancel(self, handles: list[ray.ObjectRefGenerator]) -> None:
        """Stops runs that are under way; their last checkpoints stay."""
        for handle in handles:
            ray.cancel(handle, force=True)

    def next_events(
        self, handles: list[ray.ObjectRefGenerator]
    ) -> list[tuple[ray.ObjectRefGenerator, Progress | Ended | Failure]]:
        """What the runs report next, each with its handle: waits for one report, and brings all that are there by then.

        A lost worker is such a report too.
        """
        first, others = ray.wait(handles, num_returns=1)
        more = ray.wait(others, num_returns=len(others), timeout=0)[0] if others else []
        return [(handle, _report(handle)) for handle in first + more]


def _report(handle: ray.ObjectRefGenerator) -> Progress | Ended | Failure:
    try:
        return ray.get(next(handle))
    except StopIteration:
        return Failure("lost", "the run ended without a result")
    except LocalRayletDiedError:
        raise ConnectionError(
            "ray: the node of this machine died; finished runs are kept, run the study again"
        ) from None
    except LOST as error:
        return Failure("lost", f"{type(error).__name__}: {str(error).splitlines()[0]}")


def _events(spec: RunSpec, context: RunContext) -> Iterator[Progress | Ended | Failure]:
    """What the run yields; an exception becomes its last event, so that it arrives with its traceback and nature."""
    began = time.monotonic()
    try:
        for event in step(spec.experiment, "run")(spec, context):
            yield Ended(event, time.monotonic() - began) if isinstance(event, RunResult) else event
    except Exception as error:
        yield failure_of(error)


_on_cpu = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(_events)
_on_gpu = ray.remote(num_gpus=1, num_cpus=1, max_retries=0, max_calls=1, num_returns="streaming")(_events)
