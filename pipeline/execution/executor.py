"""Carries out a plan: the tree of runs, longest chain first, every finished run stored at once."""

from __future__ import annotations

import errno
import os
import platform
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pipeline.execution.cluster import Cluster
from pipeline.execution.failures import Failure
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import Progress, RunContext, RunResult
from pipeline.planning.bill import critical_path
from pipeline.planning.run_spec import RunSpec

LEAST_MICRO_BATCH = 64


@dataclass(frozen=True)
class Policy:
    """How runs are carried out: `tokens` is the corpus folder; retries count lost workers and halved micro-batches."""

    tokens: Path
    micro_batch_tokens: int
    checkpoint_seconds: float
    retries: int


@dataclass
class Attempt:
    """A run under way: its micro-batch in tokens, how often it was tried, when it began (seconds)."""

    spec: RunSpec
    micro_batch: int
    number: int = 1
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Event:
    """News for whoever watches: `kind` is started, progress, finished, diverged, retried or failed."""

    kind: str
    spec: RunSpec
    done: int = 0
    result: RunResult | None = None
    detail: str = ""


class Executor:
    """One pass over a plan, the longest chain first by the expected `seconds` of each run_id.

    `failed` maps run_id to the reason of every run that ended without a result.
    """

    def __init__(
        self,
        specs: list[RunSpec],
        store: RunStore,
        cluster: Cluster,
        policy: Policy,
        watchers: Sequence[Callable[[Event], None]],
        seconds: dict[str, float],
    ):
        self.store, self.cluster, self.policy, self.watchers = store, cluster, policy, watchers
        self.waiting = {spec.run_id: spec for spec in specs if not store.settled(spec.run_id)}
        self.longest = critical_path(
            specs, {spec.run_id: seconds[spec.run_id] if spec.run_id in self.waiting else 0.0 for spec in specs}
        )
        self.running: dict[object, Attempt] = {}
        self.failed: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Trains everything that is not settled yet; returns `failed`.

        Raises OSError when the disk is full: what is finished is stored, what was under way resumes next time.
        """
        try:
            while True:
                self._settle_hopeless()
                self._start_ready()
                if not self.running:
                    return self.failed
                while not self._take(*self.cluster.next_event(list(self.running))):
                    pass
        finally:
            self.cluster.cancel(list(self.running))

    def _start_ready(self) -> None:
        ready = [
            spec for spec in self.waiting.values() if not spec.needs or self.store.status(spec.needs) == "finished"
        ]
        ready.sort(key=lambda spec: (-self.longest[spec.run_id], spec.run_id))
        free = dict(self.cluster.slots)
        for attempt in self.running.values():
            free[self.cluster.place(attempt.spec)] -= 1
        for spec in ready:
            place = self.cluster.place(spec)
            if free[place] > 0:
                free[place] -= 1
                del self.waiting[spec.run_id]
                self._submit(Attempt(spec, self.policy.micro_batch_tokens))
                self._tell(Event("started", spec))

    def _submit(self, attempt: Attempt) -> None:
        spec = attempt.spec
        self.store.scratch(spec.run_id).mkdir(parents=True, exist_ok=True)
        context = RunContext(
            tokens=str(self.policy.tokens),
            origin=self.store.checkpoint(spec.needs) if spec.needs else None,
            own=self.store.working_checkpoint(spec.run_id),
            checkpoint_seconds=self.policy.checkpoint_seconds,
            micro_batch_tokens=attempt.micro_batch,
        )
        self.running[self.cluster.submit(spec, context)] = attempt

    def _take(self, handle: object, event: Progress | RunResult | Failure) -> bool:
        """Deals with one report; True when it ended an attempt, so that the plan must be looked at again."""
        attempt = self.running[handle]
        if isinstance(event, Progress):
            self._tell(Event("progress", attempt.spec, done=event.done))
            return False
        del self.running[handle]
        if isinstance(event, RunResult):
            self.store.add(attempt.spec, event, _telemetry(attempt, event, self.cluster.place(attempt.spec)))
            self._tell(Event(event.status, attempt.spec, event.done, event, event.reason or ""))
        else:
            self._handle(attempt, event)
        return True

    def _handle(self, attempt: Attempt, failure: Failure) -> None:
        spec, halved = attempt.spec, attempt.micro_batch // 2
        if failure.kind == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), failure.place or str(self.store.root))
        if failure.kind == "memory" and halved >= LEAST_MICRO_BATCH:
            self._tell(Event("retried", spec, detail=f"out of memory; micro-batch halved to {halved} tokens"))
            self._submit(Attempt(spec, halved, attempt.number + 1, attempt.began))
        elif failure.kind == "lost" and attempt.number <= self.policy.retries:
            self._tell(Event("retried", spec, detail=f"{failure.summary}; resumes from its last checkpoint"))
            self._submit(Attempt(spec, attempt.micro_batch, attempt.number + 1, attempt.began))
        else:
            tries = f" (after {attempt.number} attempts)" if attempt.number > 1 else ""
            self.store.add_failure(spec, failure.traceback or failure.summary)
            self._fail(spec, failure.summary + tries)

    def _settle_hopeless(self) -> None:
        """Runs whose parent diverged have diverged with it; runs whose parent failed cannot start."""
        for run_id, spec in list(self.waiting.items()):
            if spec.needs in self.failed:
                del self.waiting[run_id]
                self._fail(spec, f"its parent {spec.needs} failed")
            elif spec.needs and self.store.status(spec.needs) == "diverged":
                del self.waiting[run_id]
                parent = self.store.result(spec.needs)
                curve = {name: column.to_numpy() for name, column in self._curve(spec.needs).items()}
                reason = f"its parent {spec.needs} diverged: {parent['reason']}"
                result = RunResult("diverged", reason, {}, curve, {}, parent["done"], parent["done"])
                self.store.add(spec, result, {"seconds": 0.0, "tokens": 0})
                self._tell(Event("diverged", spec, result=result, detail=reason))

    def _curve(self, run_id: str) -> dict:
        return self.store.curve(run_id).drop("run_id").to_dict()

    def _tell(self, event: Event) -> None:
        for watch in self.watchers:
            watch(event)

    def _fail(self, spec: RunSpec, reason: str) -> None:
        self.failed[spec.run_id] = reason
        self._tell(Event("failed", spec, detail=reason))


def _telemetry(attempt: Attempt, result: RunResult, place: str) -> dict:
    seconds = time.monotonic() - attempt.began
    trained = result.done - result.resumed_from
    return {
        "seconds": seconds,
        "tokens": trained,
        "tokens_per_second": trained / seconds,
        "flops_own": attempt.spec.flops,
        "label": attempt.spec.label,
        "resumed_from_tokens": result.resumed_from,
        "attempts": attempt.number,
        "micro_batch_tokens": attempt.micro_batch,
        "host": socket.gethostname(),
        "device": "cuda" if place == "GPU" else "cpu",
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "ray", "numpy")},
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
