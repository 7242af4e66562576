"""The device a run trains on and the settings that make it fast and repeatable there."""

from __future__ import annotations

import ctypes
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import scipy.linalg.cython_blas
import torch
from threadpoolctl import threadpool_limits

GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_THRESHOLD = -1, -3


def prepare_device() -> torch.device:
    """The GPU given to this process, else the CPU with one thread; called once in a worker.

    One thread a worker, in torch and in the BLAS of compiled code, makes results independent of how many workers there
    are. On Linux, the process keeps the blocks
    that it frees: the kernel would otherwise map and zero activations of a few hundred kB again in every step, which
    costs small models 10 to 20 % of their time.
    """
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        return torch.device("cuda")
    assert scipy.linalg.cython_blas, "loaded, so that the limit finds it"
    threadpool_limits(1, user_api="blas")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.mallopt(GLIBC_MMAP_THRESHOLD, 1 << 25)
        library.mallopt(GLIBC_TRIM_THRESHOLD, 1 << 30)
    return torch.device("cpu")


def arithmetic(device: torch.device) -> AbstractContextManager:
    """bfloat16 autocast on CUDA, fp32 on the CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


@lru_cache
def matrix_product_rate(device: torch.device) -> float:
    """FLOP/s of large square matrix products on `device`, in the arithmetic of training: the most a run could reach.

    The best of several products, measured once in a process: 1,024^3 in fp32 on a CPU thread, 8,192^3 in bfloat16 on
    CUDA.
    """
    size, kind = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    left, right = torch.ones(size, size, dtype=kind, device=device), torch.ones(size, size, dtype=kind, device=device)
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        float((left @ right)[0, 0])
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)
