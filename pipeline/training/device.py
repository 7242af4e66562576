"""The device a run trains on and the settings that make it fast and repeatable there."""

from __future__ import annotations

import gc
import os
from contextlib import AbstractContextManager, nullcontext

import scipy.linalg.cython_blas
import torch
from threadpoolctl import threadpool_limits

from pipeline.allocator import keep_freed_blocks


def prepare_device(sharded: bool = False) -> torch.device:
    """The GPU given to this process, else the CPU with one thread; called once in a worker.

    One thread a worker, in torch and in the BLAS of compiled code, makes results independent of how many workers there
    are; a GPU gives the same bits every time too. Freed blocks are kept, of a `sharded` model none from 1 MB on:
    matrices that come and go would leave holes.
    """
    torch.utils.deterministic.fill_uninitialized_memory = False
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cuda.matmul.allow_tf32 = True
        return torch.device("cuda")
    assert scipy.linalg.cython_blas, "loaded, so that the limit finds it"
    threadpool_limits(1, user_api="blas")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    keep_freed_blocks(1 << (20 if sharded else 25))
    return torch.device("cpu")


def arithmetic(device: torch.device) -> AbstractContextManager:
    """bfloat16 autocast on CUDA, fp32 on the CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most bytes of a GPU that this process held for tensors since `give_back_memory`, as `gpu_bytes`; on a CPU
    nothing."""
    return {} if device.type == "cpu" else {"gpu_bytes": torch.cuda.max_memory_reserved()}


def give_back_memory(device: torch.device) -> None:
    """Frees what the last run held of a GPU, for those that share it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
