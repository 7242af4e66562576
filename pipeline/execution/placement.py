"""What a run asks for, from what it needs and what the cluster has: a core, a GPU, or a part of a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.experiments.experiment import step
from pipeline.planning.run_spec import RunSpec

SHARERS = (8, 4, 2)
"""How many runs may share one GPU, most first."""
USABLE = 0.9
"""The part of a GPU's memory that estimates may fill."""
LEAST_MICRO_BATCH = 64
"""Tokens; a micro-batch is not halved below it."""


def num_workers() -> int:
    """Runs trained at once on this machine: STUDY_WORKERS, else its cores.

    Raises ValueError when STUDY_WORKERS is not a positive whole number.
    """
    text = os.environ.get("STUDY_WORKERS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"environment: STUDY_WORKERS: {text!r} is not a positive whole number")
    return int(text)


@dataclass(frozen=True)
class Capacity:
    """What a cluster has: cores, GPUs, and the bytes of memory of its smallest GPU, None where nobody knows."""

    cpus: int
    gpus: int = 0
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class Request:
    """What one run gets: `place` is "CPU" (one core) or "GPU" (a core and one of `sharers` equal parts of a GPU), and
    that `devices` times; `sharded` divides the model among these."""

    place: str
    sharers: int = 1
    devices: int = 1
    sharded: bool = False


def request_of(
    spec: RunSpec, micro_batch_tokens: int, devices: int, capacity: Capacity, shard: str = "auto"
) -> Request:
    """What `spec` asks for: a GPU, where there is any, for training that is counted in FLOPs, else a core; for such
    training `devices` of them.

    As many runs share a GPU as fit into USABLE of its memory by the estimate of their experiment, at most SHARERS; a
    run that does not fit gets a whole one, where its micro-batch is halved. Several devices have the whole model each;
    by `shard` they divide it "always", "never", or, "auto", where it does not fit otherwise even with the least
    micro-batch. Raises ValueError for a run that does not fit then either, and for more devices than there are.
    """
    if not spec.flops:
        return Request("CPU")
    place, number = ("GPU", capacity.gpus) if capacity.gpus else ("CPU", capacity.cpus)
    if devices > number:
        kind = "GPU" if capacity.gpus else "core"
        raise ValueError(f"params.yaml: train.devices: {devices} for a run, and the cluster has {number} {kind}s")
    if not capacity.gpus or capacity.gpu_bytes is None:
        return Request(place, devices=devices, sharded=shard == "always")
    memory, room = step(spec.experiment, "memory"), USABLE * capacity.gpu_bytes
    least, divided = memory(spec, LEAST_MICRO_BATCH), False
    if devices > 1 and (shard == "always" or (shard == "auto" and least > room)):
        least, divided = memory(spec, LEAST_MICRO_BATCH, devices), True
    if least > room:
        raise ValueError(
            f"plan/runs.parquet: {spec.run_id} ({spec.label}) takes {least / 1e9:.3g} GB of GPU memory with the least"
            f" micro-batch, train.devices: {devices} and train.shard: {shard}; the smallest GPU of the cluster has"
            f" {capacity.gpu_bytes / 1e9:.3g} GB, {USABLE:.0%} usable"
        )
    if devices > 1:
        return Request("GPU", devices=devices, sharded=divided)
    need = memory(spec, micro_batch_tokens)
    return Request("GPU", next((sharers for sharers in SHARERS if sharers * need <= room), 1))
