"""What a run asks for, from what it needs and what the cluster has: a core, a GPU, or a part of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.experiments.experiment import step
from pipeline.planning.run_spec import RunSpec

SHARERS = (8, 4, 2)
"""How many runs may share one GPU, most first."""
USABLE = 0.9
"""The part of a GPU's memory that estimates may fill."""
LEAST_MICRO_BATCH = 64
"""Tokens; a micro-batch is not halved below it."""


@dataclass(frozen=True)
class Capacity:
    """What a cluster has: cores, GPUs, and the bytes of memory of its smallest GPU, None where nobody knows."""

    cpus: int
    gpus: int = 0
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class Request:
    """What one run gets: `place` is "CPU" (one core) or "GPU" (a core and one of `sharers` equal parts of a GPU)."""

    place: str
    sharers: int = 1


def request_of(spec: RunSpec, micro_batch_tokens: int, capacity: Capacity) -> Request:
    """What `spec` asks for: a GPU, where there is any, for training that is counted in FLOPs, else a core.

    As many runs share a GPU as fit into USABLE of its memory by the estimate of their experiment, at most SHARERS; a
    run that does not fit gets a whole one, where its micro-batch is halved. Raises ValueError for a run that does not
    fit even with the least micro-batch.
    """
    if not (capacity.gpus and spec.flops):
        return Request("CPU")
    if capacity.gpu_bytes is None:
        return Request("GPU")
    memory, room = step(spec.experiment, "memory"), USABLE * capacity.gpu_bytes
    least = memory(spec, LEAST_MICRO_BATCH)
    if least > room:
        raise ValueError(
            f"plan/runs.parquet: {spec.run_id} ({spec.label}) takes {least / 1e9:.3g} GB of GPU memory with the least"
            f" micro-batch; the smallest GPU of the cluster has {capacity.gpu_bytes / 1e9:.3g} GB, {USABLE:.0%} usable"
        )
    need = memory(spec, micro_batch_tokens)
    return Request("GPU", next((sharers for sharers in SHARERS if sharers * need <= room), 1))
