"""The processes that train one run together, each on its part of every batch; mostly there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """`size` processes of torch.distributed, of which this one is number `rank`.

    Data parallelism without overlap: every process holds the whole model (or a part of it, see training/sharded.py),
    the gradients of the parts of a batch are added up before the update, and each makes the same update (Li et al.
    2020, arXiv 2006.15704, section 3.1). The batch is the same whatever `size` is, so the numbers differ only in the
    order in which a sum is rounded.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> World:
        """The process group that this process has joined; itself alone where it has joined none."""
        joined = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if joined else cls()

    def part(self, rows: np.ndarray) -> np.ndarray:
        """The rows that are this process's share: every `size`-th, one after the other in memory, as compiled code that
        was made for whole batches wants them."""
        return np.ascontiguousarray(rows[self.rank :: self.size])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each of `tensors`, which have one dtype and lie on one device, by its sum over all processes.

        Raises ConnectionResetError when one of them is gone.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with connected():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def agree(self, said: bool) -> bool:
        """What the first process says, in each: all of them ask, each with a word of its own."""
        first = torch.tensor([float(said and self.rank == 0)])
        self.add_up([first])
        return bool(first)


ALONE = World()


@contextmanager
def connected() -> Iterator[None]:
    """Raises ConnectionResetError where torch finds that another process of the group is gone.

    NCCL's errors have a class of their own; those of gloo are told from a model's by their text alone.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise ConnectionResetError(f"a process of the group is gone ({str(error).strip().splitlines()[0]})") from None
