"""The rate of large matrix products: the most FLOP/s that a run can reach on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import sgemm
from torch import Tensor

REPEATS = 8


@lru_cache
def matrix_product_rate(device: torch.device) -> float:
    """FLOP/s of large square matrix products on `device`, in the arithmetic of training.

    The best of several, measured once in a process: 1,024^3 in fp32 on a CPU thread, by torch or by the BLAS of the
    compiled step, whichever is faster on this processor (they differ by a factor of two on some); ten times 8,192^3 in
    bfloat16 on CUDA.
    """
    size, ways = products(device)
    count = 10 if device.type == "cuda" else 1
    return count * 2 * size**3 / min(_seconds(way, count) for way in ways)


def products(device: torch.device) -> tuple[int, list[Callable[[], float]]]:
    """(side of the matrices, the ways to multiply them on `device`)."""
    if device.type == "cuda":
        sides = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
        return 8192, [torch_product(*sides)]
    left, right = (torch.randn(1024, 1024) for _ in range(2))
    return 1024, [torch_product(left, right), blas_product(left.numpy(), right.numpy())]


def torch_product(left: Tensor, right: Tensor) -> Callable[[], float]:
    """A function that multiplies the matrices by torch; whoever reads the entry that it returns waits for the rest."""
    product = left @ right

    def multiply() -> float:
        torch.mm(left, right, out=product)
        return product[-1, -1]

    return multiply


def blas_product(left: NDArray, right: NDArray) -> Callable[[], float]:
    """The same in fp32 by the BLAS that compiled code calls."""
    left, right = (np.asfortranarray(side, np.float32) for side in (left, right))
    product = np.zeros((len(left), right.shape[1]), np.float32, order="F")

    def multiply() -> float:
        return sgemm(1.0, left, right, c=product, overwrite_c=True)[-1, -1]

    return multiply


def _seconds(multiply: Callable[[], float], count: int) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(count - 1):
            multiply()
        float(multiply())
        seconds.append(time.perf_counter() - began)
    return min(seconds)
