"""A run under way, tried as often as it takes, and what is noted of it at its end, which no later stage hashes."""

from __future__ import annotations

import platform
import socket
import time
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version

from pipeline.execution.anomalies import spikes
from pipeline.execution.cluster import Ended
from pipeline.execution.placement import Request
from pipeline.planning.run_spec import RunSpec


@dataclass
class Attempt:
    """A run under way: its micro-batch in tokens, how often its worker was lost, how often in a row without anything
    new saved and what was saved by then, how often its micro-batch was halved, the seconds that earlier attempts took,
    and when this one was submitted and last heard of (seconds)."""

    spec: RunSpec
    micro_batch: int
    lost: int = 0
    fruitless: int = 0
    saved: str | None = None
    halved: int = 0
    earlier: float = 0.0
    submitted: float = field(default_factory=time.monotonic)
    heard: float | None = None

    @property
    def number(self) -> int:
        """How many attempts were made, this one included."""
        return 1 + self.lost + self.halved

    def again(self, **changes: object) -> Attempt:
        """The next attempt at the same run, with `changes`."""
        earlier = self.earlier + time.monotonic() - self.submitted
        return replace(self, earlier=earlier, submitted=time.monotonic(), heard=None, **changes)


def telemetry(attempt: Attempt, ended: Ended, request: Request) -> dict:
    """What is noted of a run beside its record: seconds, tokens, FLOPs, losses of its worker, halvings of its
    micro-batch, spikes of its curve, and where it ran."""
    seconds, result = attempt.earlier + ended.seconds, ended.result
    trained = result.done - result.resumed_from
    named = result.curve.keys() >= {"tokens", "train_loss"}
    noted = spikes(result.curve["tokens"], result.curve["train_loss"]) if named else []
    return {
        "seconds": seconds,
        "tokens": trained,
        "tokens_per_second": trained / seconds,
        "flops_own": attempt.spec.flops,
        "label": attempt.spec.label,
        "resumed_from_tokens": result.resumed_from,
        "attempts": attempt.number,
        "lost": attempt.lost,
        "halved": attempt.halved,
        "micro_batch_tokens": attempt.micro_batch,
        "spikes": len(noted),
        "notes": [spike.note for spike in noted],
        "device": "cuda" if request.place == "GPU" else "cpu",
        "devices": request.devices,
        "sharded": request.sharded,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **_surroundings(),
        **result.measured,
    }


@cache
def _surroundings() -> dict:
    return {
        "host": socket.gethostname(),
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "ray", "numpy")},
    }
