"""Carries out a plan: the tree of runs, longest chain first, every finished run stored at once."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec

from pipeline.execution.attempt import Attempt, telemetry
from pipeline.execution.cluster import Cluster, Ended
from pipeline.execution.failures import Failure
from pipeline.execution.placement import LEAST_MICRO_BATCH, Request, request_of
from pipeline.execution.queue import Queue
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import Progress, RunContext, RunResult
from pipeline.planning.bill import critical_path
from pipeline.planning.run_spec import SETTLED, RunSpec


@dataclass(frozen=True)
class Policy:
    """How runs are carried out: `tokens` is the corpus folder, `tokens_uri` its copy for nodes that lack it, None
    without one; `retries` bounds the times in a row that a run may lose its worker without having saved anything new,
    and that its damaged parent is trained again; `devices` train one run together and, by `shard`, divide its model
    (see placement.request_of); after `silence_seconds` without news a run that gave some before has lost its worker."""

    tokens: Path
    micro_batch_tokens: int
    checkpoint_seconds: float
    retries: int
    tokens_uri: str | None = None
    devices: int = 1
    silence_seconds: float = 600.0
    shard: str = "auto"


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

    `failed` maps run_id to the reason of every run that ended without a result. Raises ValueError for a run that the
    cluster can never carry out.
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
        self.running: dict[object, Attempt] = {}
        self.failed: dict[str, str] = {}
        self.specs = {spec.run_id: spec for spec in specs}
        self.redone: Counter[str] = Counter()
        held = {spec.run_id: store.status(spec.run_id) for spec in specs}
        waiting = {spec.run_id: spec for spec in specs if held[spec.run_id] not in SETTLED}
        left = {run_id: seconds[run_id] if run_id in waiting else 0.0 for run_id in held}
        self.requests = {run_id: self._asked(spec) for run_id, spec in waiting.items()}
        slots = {"CPU": cluster.capacity.cpus, "GPU": cluster.capacity.gpus}
        self.queue = Queue(critical_path(specs, left), left, self._request, slots)
        self.ended: deque[tuple[str, str | None]] = deque()
        self._line_up(waiting)

    def run(self) -> dict[str, str]:
        """Trains everything that is not settled yet; returns `failed`.

        Raises OSError when the disk is full: what is finished is stored, what was under way resumes next time.
        """
        try:
            while True:
                self._release_children()
                for spec in self.queue.startable():
                    self._submit(Attempt(spec, self.policy.micro_batch_tokens))
                    self._tell(Event("started", spec))
                if not self.running:
                    return self.failed
                self._take(self.cluster.next_events(list(self.running)))
                self._give_up_silent()
        finally:
            self.cluster.cancel(list(self.running))

    def _request(self, spec: RunSpec) -> Request:
        return self.requests.get(spec.run_id) or self._asked(spec)

    def _asked(self, spec: RunSpec) -> Request:
        policy = self.policy
        return request_of(spec, policy.micro_batch_tokens, policy.devices, self.cluster.capacity, policy.shard)

    def _submit(self, attempt: Attempt) -> None:
        spec, request = attempt.spec, self._request(attempt.spec)
        self.store.scratch(spec.run_id).mkdir(parents=True, exist_ok=True)
        context = RunContext(
            tokens=str(self.policy.tokens),
            tokens_uri=self.policy.tokens_uri,
            origin=self.store.checkpoint(spec.needs) if spec.needs else None,
            own=self.store.working_checkpoint(spec.run_id),
            checkpoint_seconds=self.policy.checkpoint_seconds,
            micro_batch_tokens=attempt.micro_batch,
            sharded=request.sharded,
        )
        fresh = f"{spec.run_id}-{attempt.number}" if attempt.halved else ""
        self.running[self.cluster.submit(spec, context, request, fresh)] = attempt

    def _take(self, reports: list[tuple[object, Progress | Ended | Failure]]) -> None:
        """Deals with what runs report. Those that ended well are stored together, and before any failure counts."""
        ended, failures = [], []
        for handle, event in reports:
            attempt = self.running[handle]
            if isinstance(event, Progress):
                attempt.heard = time.monotonic()
                kind = "retried" if event.note else "progress"
                self._tell(Event(kind, attempt.spec, done=event.done, detail=event.note))
                continue
            del self.running[handle]
            (ended if isinstance(event, Ended) else failures).append((attempt, event))
        self.store.add_all(
            [
                (attempt.spec, event.result, telemetry(attempt, event, self._request(attempt.spec)))
                for attempt, event in ended
            ]
        )
        for attempt, event in ended:
            self.queue.vacate(attempt.spec)
            self._end(attempt.spec, event.result)
        for attempt, failure in failures:
            self._handle(attempt, failure)

    def _give_up_silent(self) -> None:
        """A run that told how far it was, and then nothing for `silence_seconds`, has lost its worker."""
        limit, now = self.policy.silence_seconds, time.monotonic()
        for handle, attempt in list(self.running.items()):
            if attempt.heard is not None and now - attempt.heard > limit:
                self.cluster.cancel([handle])
                del self.running[handle]
                self._handle(attempt, Failure("lost", f"no news for {limit:g} s: its worker stands still"))

    def _end(self, spec: RunSpec, result: RunResult) -> None:
        self.ended.append((spec.run_id, result.status))
        self._tell(Event(result.status, spec, result.done, result, result.reason or ""))

    def _handle(self, attempt: Attempt, failure: Failure) -> None:
        if failure.kind == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), failure.place or str(self.store.root))
        halved = attempt.micro_batch // 2
        if failure.kind == "memory" and halved >= LEAST_MICRO_BATCH:
            self._retry(
                attempt.again(micro_batch=halved, halved=attempt.halved + 1, fruitless=0),
                f"out of memory; micro-batch halved to {halved} tokens",
            )
            return
        if failure.kind == "lost":
            saved = _version(self.store.working_checkpoint(attempt.spec.run_id))
            fruitless = attempt.fruitless + 1 if saved == attempt.saved else 0
            if fruitless <= self.policy.retries:
                again = attempt.again(lost=attempt.lost + 1, fruitless=fruitless, saved=saved)
                self._retry(again, f"{failure.summary}; resumes from its last checkpoint")
                return
        self.queue.vacate(attempt.spec)
        if failure.kind == "origin" and self._redo_parent(attempt.spec, failure.summary):
            self.queue.wait(attempt.spec, attempt.spec.needs)
            return
        tries = f" (after {attempt.number} attempts)" if attempt.number > 1 else ""
        self.store.add_failure(attempt.spec, failure.traceback or failure.summary + tries)
        self._fail(attempt.spec, failure.summary + tries)

    def _retry(self, attempt: Attempt, why: str) -> None:
        self._tell(Event("retried", attempt.spec, detail=why))
        self._submit(attempt)

    def _redo_parent(self, spec: RunSpec, why: str) -> bool:
        """True when the parent of `spec` is under way again: at its first child's asking its record is set aside."""
        parent = self.specs.get(spec.needs)
        if parent is None or parent.run_id in self.failed or self.redone[parent.run_id] > self.policy.retries:
            return False
        if self.store.settled(parent.run_id):
            self.redone[parent.run_id] += 1
            place = self.store.set_aside(parent.run_id)
            self._tell(Event("retried", parent, detail=f"{why}; its record is now {place}"))
            self.queue.add(parent)
        return True

    def _line_up(self, waiting: dict[str, RunSpec]) -> None:
        """Every run waits for its parent; parents that are settled already are the first to let their children go."""
        for spec in waiting.values():
            if spec.needs:
                self.queue.wait(spec, spec.needs)
            else:
                self.queue.add(spec)
        needed = {spec.needs: None for spec in waiting.values() if spec.needs and spec.needs not in waiting}
        self.ended.extend((parent, self.store.status(parent)) for parent in needed)

    def _release_children(self) -> None:
        """What waited for a run that ended is ready, if that one finished; has diverged with it; or cannot start."""
        while self.ended:
            parent, status = self.ended.popleft()
            for spec in self.queue.children(parent):
                if status == "finished":
                    self.queue.add(spec)
                elif status == "diverged":
                    result = self._diverged_with(parent)
                    self.store.add(spec, result, {"seconds": 0.0, "tokens": 0})
                    self._end(spec, result)
                else:
                    self._fail(spec, f"its parent {parent} {'failed' if status == 'failed' else 'has no record'}")

    def _diverged_with(self, parent: str) -> RunResult:
        record = self.store.result(parent)
        curve = {name: column.to_numpy() for name, column in self._curve(parent).items()}
        reason = f"its parent {parent} diverged: {record['reason']}"
        return RunResult("diverged", reason, {}, curve, {}, record["done"], record["done"])

    def _curve(self, run_id: str) -> dict:
        return self.store.curve(run_id).drop("run_id").to_dict()

    def _tell(self, event: Event) -> None:
        for watch in self.watchers:
            watch(event)

    def _fail(self, spec: RunSpec, reason: str) -> None:
        self.failed[spec.run_id] = reason
        self.ended.append((spec.run_id, "failed"))
        self._tell(Event("failed", spec, detail=reason))


def _version(uri: str) -> str | None:
    """What changes whenever the file at `uri` is written anew, None where there is none."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.invalidate_cache()
    return filesystem.ukey(path) if filesystem.exists(path) else None
