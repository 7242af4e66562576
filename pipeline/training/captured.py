"""Training on a GPU by CUDA graphs: a whole update is launched at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from shutil import which

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.models.loss import next_token_loss
from pipeline.params import Model, Optimizer
from pipeline.training.plain import TorchEngine
from pipeline.training.world import ALONE, World

COMPILED_FROM = 10_000_000
"""Parameters from which on the loss is compiled."""


@dataclass(frozen=True)
class Captured:
    """An update on a batch of one size: `graph` reads `windows` (B, T + 1) and leaves the mean loss in `loss`."""

    graph: torch.cuda.CUDAGraph
    windows: Tensor
    loss: Tensor


class CapturedEngine(TorchEngine):
    """The same update as plain torch, recorded once for each batch size and replayed.

    A small model's update is hundreds of kernels of a few microseconds, each of which takes longer to launch from
    Python than to run. The rates are read from the device, so that one graph serves the whole course; all graphs share
    one pool of memory, since none runs beside another. A large model's loss goes through torch.compile, which takes a
    quarter of a minute and saves a third of the time from then on; by its size alone, so that runs of one tree are made
    alike.
    """

    def __init__(
        self, network: nn.Module, optimizer: Optimizer, model: Model, device: torch.device, world: World = ALONE
    ):
        super().__init__(network, optimizer, model, device, world)
        self.captured: dict[tuple[int, int], Captured] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.warm = False
        self.fused = None
        if sum(parameter.numel() for parameter in self.optimizer.parameters) >= COMPILED_FROM and _has_compiler():
            self.fused = torch.compile(next_token_loss)

    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> Tensor:
        """See Engine."""
        if not self.warm:
            self.warm = True
            return self._aside(lambda: super(CapturedEngine, self).step(windows, factor, micro_batch))
        self.optimizer.set_rates(factor)
        key = len(windows), micro_batch
        if key not in self.captured:
            self.captured[key] = self._capture(windows.shape, micro_batch)
        captured = self.captured[key]
        captured.windows.copy_(torch.from_numpy(windows).pin_memory(), non_blocking=True)
        captured.graph.replay()
        return captured.loss.clone()

    def _aside(self, work: Callable[[], Tensor]) -> Tensor:
        """Does `work` operation by operation on the stream of captures, as a later one wants it: it makes what a
        capture may not, the state of AdamW, the workspaces of libraries, compiled code."""
        aside = _stream_of_captures()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            result = work()
        torch.cuda.current_stream().wait_stream(aside)
        return result

    def _loss(self, windows: Tensor) -> Tensor:
        if self.fused is None:
            return super()._loss(windows)
        torch._dynamo.maybe_mark_dynamic(windows, 0)
        return self.fused(self.network, windows)

    def _capture(self, shape: tuple[int, ...], micro_batch: int) -> Captured:
        windows = torch.zeros(shape, dtype=torch.int64, device=self.device)
        if self.fused is not None:
            self._aside(lambda: self._gradient(windows, len(windows), micro_batch))
            self.optimizer.clear()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, _stream_of_captures()):
            loss = self._update(windows, len(windows), micro_batch)
        return Captured(graph, windows, loss)


@cache
def _stream_of_captures() -> torch.cuda.Stream:
    """One for all runs of a process: cuBLAS keeps a workspace of 33 MB for every stream it has seen."""
    return torch.cuda.Stream()


def _has_compiler() -> bool:
    """Whether there is what Triton builds its launchers with."""
    return any(map(which, (os.environ.get("CC", "cc"), "gcc", "clang")))
