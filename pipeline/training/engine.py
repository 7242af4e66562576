"""What trains a model step by step: compiled loops on a CPU, captured graphs on a GPU, behind one interface."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.models.own import build_own
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import Model, Optimizer
from pipeline.training.captured import CapturedEngine
from pipeline.training.compiled import compile_apart
from pipeline.training.compiled.engine import CompiledEngine
from pipeline.training.plain import TorchEngine
from pipeline.training.world import ALONE, World


class Engine(Protocol):
    """A model in training. Windows are int64 (B, T + 1); all engines read each other's state."""

    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> Tensor | float:
        """One update with `factor` times the peak rates from the mean gradient of `windows`, at most `micro_batch`
        tokens of them at once; returns their mean loss before it, nats/token. Every process of a World is given all the
        windows, takes its part of them, and has the same weights and loss afterwards."""

    def losses(self, windows: np.ndarray) -> np.ndarray:
        """Nats (B, T) of every token of `windows`."""

    def state(self) -> dict[str, Tensor]:
        """All tensors that `restore` needs, in the first process of a World; every one of them asks."""

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """Takes over what `state` returned after `num_steps` steps, to the same bits on the same kind of device."""


def make_engine(
    shape: Shape,
    model: Model,
    optimizer: Optimizer,
    seed: int,
    device: torch.device,
    world: World = ALONE,
    sharded: bool = False,
) -> Engine:
    """The engine for `device` in this process of `world`, with initial weights that are the same everywhere; `sharded`
    divides the model among the processes.

    Raises ValueError when the model of the user's own that `model` names does not keep the protocol of models/own.py.
    """
    if sharded:
        from pipeline.training.sharded import ShardedEngine  # torch's sharding takes a second to load

        return ShardedEngine(shape, model, optimizer, seed, device, world)
    if model.build:
        return TorchEngine(build_own(model.build, shape, seed).to(device), optimizer, model, device, world)
    transformer = Transformer(shape)
    initialise(transformer, model.parametrization, seed)
    if device.type == "cpu":
        compile_apart(shape.head_size)
        return CompiledEngine(transformer, optimizer, model, world)
    make = CapturedEngine if world.size == 1 else TorchEngine
    return make(transformer.to(device), optimizer, model, device, world)
