"""Runs on a Ray cluster: this machine's own, or the one RAY_ADDRESS names. Only group.py imports ray beside this."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RaySystemError,
    RayTaskError,
    RpcError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.execution.failures import Failure, failure_of
from pipeline.execution.gpu_sharing import shared_gpus
from pipeline.execution.placement import Capacity, Request, num_workers
from pipeline.execution.work import begin
from pipeline.experiments.experiment import Progress, RunContext, RunResult
from pipeline.planning.run_spec import RunSpec

LOST = (WorkerCrashedError, NodeDiedError, ObjectLostError, ObjectStoreFullError)
DISCONNECTED = (LocalRayletDiedError, RaySystemError, RpcError)
REACH_SECONDS = 5.0
"""How long the head of a cluster may take to answer."""
LOOK_SECONDS = 5.0
"""After so long without news the driver makes sure that the head of the cluster is still there."""
MOST_UNANSWERED = 3
"""So often in a row that may fail: a head can come back. Ray itself ends the process after a minute without one."""
KEPT = "finished runs are kept, run the study again"


def check_address() -> None:
    """Raises ValueError when RAY_ADDRESS is set to something that no driver can use, ConnectionError when nothing
    answers there: Ray itself would try for minutes."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise ValueError(
            f"environment: RAY_ADDRESS: {address!r} is for a Ray client; run the study on a node of the cluster, with"
            " the address of its head (host:6379) or auto"
        )
    port = address.rpartition(":")[2]
    if port.isascii() and port.isdigit() and not _answers(address):
        raise ConnectionError(f"environment: RAY_ADDRESS: {address!r}: nothing answers there")


@dataclass(frozen=True)
class Ended:
    """A run that ended with a `result`, `seconds` after its worker had begun it."""

    result: RunResult
    seconds: float


class Cluster:
    """A Ray session for the length of a `with` block; `capacity` is what it had when the block began.

    Entering raises ValueError for an address that is none or a cluster without a core, ConnectionError where no cluster
    answers.
    """

    _unanswered = 0

    def __enter__(self) -> Cluster:
        address = os.environ.get("RAY_ADDRESS")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options = {"logging_level": logging.ERROR, "log_to_driver": False}
        with ExitStack() as stack:
            if not address:
                stack.enter_context(shared_gpus())
            stack.callback(ray.shutdown)
            if address:
                _join(address, options)
            else:
                _begin(num_workers(), options)
            self.capacity = _capacity(address)
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.close()

    def submit(self, spec: RunSpec, context: RunContext, request: Request, fresh: str) -> ray.ObjectRefGenerator:
        """A handle on the run, which starts as soon as what it asks for is free; in a process of its own when `fresh`
        says which.

        A process that ran out of memory does not get all of it back: compiled code that stops half-way leaves its
        arrays behind. Ray gives an environment of its own a process of its own, and ends those that stand idle.
        """
        options = {"runtime_env": {"env_vars": {"STUDY_PROCESS": fresh}}} if fresh else {}
        return _remote(request, bool(fresh)).options(**options).remote(spec, context, request)

    def cancel(self, handles: list[ray.ObjectRefGenerator]) -> None:
        """Stops runs that are under way; their last checkpoints stay."""
        for handle in handles:
            ray.cancel(handle, force=True)

    def next_events(
        self, handles: list[ray.ObjectRefGenerator]
    ) -> list[tuple[ray.ObjectRefGenerator, Progress | Ended | Failure]]:
        """What the runs report next, each with its handle: waits LOOK_SECONDS for one report, and brings all that are
        there by then.

        A lost worker is such a report too. Raises ConnectionError when the cluster itself is gone.
        """
        try:
            first, others = ray.wait(handles, num_returns=1, timeout=LOOK_SECONDS)
            answered = bool(first) or _answers(ray.get_runtime_context().gcs_address)
            self._unanswered = 0 if answered else self._unanswered + 1
            if self._unanswered == MOST_UNANSWERED:
                raise RaySystemError("its head does not answer")
            more = ray.wait(others, num_returns=len(others), timeout=0)[0] if first and others else []
            return [(handle, _report(handle)) for handle in first + more]
        except DISCONNECTED as error:
            raise ConnectionError(f"ray: the cluster is gone ({_first_line(error)}); {KEPT}") from None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _begin(num_cpus: int, options: dict) -> None:
    # Ray starts its workers at niceness 15: beside any other program they would stand still.
    system = {"worker_niceness": 0}
    try:
        ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, _system_config=system, **options)
    except Exception as error:  # Ray has no narrower class for a node that does not start in time.
        raise ConnectionError(f"ray: no session starts on this machine ({_first_line(error)}); {KEPT}") from error


def _join(address: str, options: dict) -> None:
    check_address()
    try:
        ray.init(address=address, **options)
        if any(node["NodeManagerHostname"] != socket.gethostname() for node in ray.nodes() if node["Alive"]):
            ray.shutdown()
            code = Path(__file__).resolve().parents[1]
            modules = [str(folder) for folder in (code, code.parent / "own") if folder.exists()]
            ray.init(address=address, runtime_env={"py_modules": modules}, **options)
    except (ValueError, ConnectionError, RuntimeError) as error:
        raise ConnectionError(
            f"environment: RAY_ADDRESS: {address!r} cannot be joined ({_first_line(error)}){_token_wanted()}"
        ) from None


def _token_wanted() -> str:
    """What may help a driver that does not show the token which `ray start` makes its cluster ask for."""
    shown = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    return "" if shown else "; if the cluster asks for a token, as `ray start` has it do, set RAY_AUTH_MODE=token"


def _capacity(address: str | None) -> Capacity:
    resources = ray.cluster_resources()
    cpus, gpus = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU"))
    if cpus < 1:
        raise ValueError(f"environment: RAY_ADDRESS: {address!r} has no CPU for a run: {resources}")
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    asked = [
        _gpu_bytes.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in nodes
    ]
    known = ray.get(asked)
    return Capacity(cpus, gpus, None if None in known else min(known, default=None))


def _report(handle: ray.ObjectRefGenerator) -> Progress | Ended | Failure:
    try:
        return ray.get(next(handle))
    except StopIteration:
        return Failure("lost", "the run ended without a result")
    except OutOfMemoryError as error:
        return Failure("memory", f"{type(error).__name__}: {_first_line(error)}")
    except OutOfDiskError as error:
        return Failure("disk", _first_line(error), place="the object store of Ray")
    except LOST as error:
        return Failure("lost", f"{type(error).__name__}: {_first_line(error)}")
    except RayTaskError as error:
        # What a run raises arrives as a Failure: this is a worker that cannot even begin, or hand over, a run.
        what = str(error).strip().splitlines()[-1]
        raise ConnectionError(f"ray: a worker of the cluster cannot carry out runs ({what}); {KEPT}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _events(spec: RunSpec, context: RunContext, request: Request) -> Iterator[Progress | Ended | Failure]:
    """What the run yields; an exception becomes its last event, so that it arrives with its traceback and nature.

    A process that aborts ends at once: Ray's own handler wants memory, and where there is none it aborts again for
    ever.
    """
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    began = time.monotonic()
    try:
        for event in _run(spec, context, request):
            yield Ended(event, time.monotonic() - began) if isinstance(event, RunResult) else event
    except Exception as error:
        yield failure_of(error)


def _run(spec: RunSpec, context: RunContext, request: Request) -> Iterator[Progress | RunResult | Failure]:
    if request.devices == 1:
        return begin(spec, context)
    from pipeline.execution.group import train_together  # Ray Train takes seconds to load

    return train_together(spec, context, request)


@cache
def _remote(request: Request, once: bool) -> ray.remote_function.RemoteFunction:
    """The remote function of a resource class. A process with a GPU to itself, or for this run alone (`once`), ends
    with the run, which frees all of its memory; one that shares a GPU stays for the next small run and gives back what
    training took (experiments/language_model/run.py). One that leads a group needs no device of its own."""
    alone = request.devices == 1
    options = {"num_cpus": int(alone), "max_retries": 0, "num_returns": "streaming"}
    if request.place == "GPU" and alone:
        options |= {"num_gpus": 1 / request.sharers}
    stays = not once and (request.place == "CPU" or request.sharers > 1)
    options |= {"max_calls": 0 if stays else 1}
    return ray.remote(**options)(_events)


@ray.remote(num_gpus=1, num_cpus=0, max_calls=1)
def _gpu_bytes() -> int | None:
    """Bytes of memory of the GPU that this process was given, None where torch sees none."""
    cuda = import_module("torch").cuda
    return cuda.mem_get_info()[1] if cuda.is_available() else None
