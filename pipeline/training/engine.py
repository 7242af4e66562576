"""What trains a model step by step: compiled loops on a CPU, torch's autograd on a GPU, behind one interface."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.models.loss import next_token_loss
from pipeline.models.own import build_own
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import Model, Optimizer
from pipeline.training.compiled import compile_apart
from pipeline.training.compiled.engine import CompiledEngine
from pipeline.training.device import arithmetic
from pipeline.training.optimizer import Optimizer as TorchOptimizer
from pipeline.training.world import ALONE, World


class Engine(Protocol):
    """A model in training. Windows are int64 (B, T + 1); both engines read each other's state."""

    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> Tensor | float:
        """One update with `factor` times the peak rates from the mean gradient of `windows`, at most `micro_batch`
        tokens of them at once; returns their mean loss before it, nats/token. Every process of a World is given all the
        windows, takes its part of them, and has the same weights and loss afterwards."""

    def losses(self, windows: np.ndarray) -> np.ndarray:
        """Nats (B, T) of every token of `windows`."""

    def state(self) -> dict[str, Tensor]:
        """All tensors that `restore` needs."""

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """Takes over what `state` returned after `num_steps` steps, to the same bits on the same kind of device."""


def make_engine(
    shape: Shape, model: Model, optimizer: Optimizer, seed: int, device: torch.device, world: World = ALONE
) -> Engine:
    """The engine for `device` in this process of `world`, with initial weights that are the same everywhere.

    Raises ValueError when the model of the user's own that `model` names does not keep the protocol of models/own.py.
    """
    if model.build:
        return TorchEngine(build_own(model.build, shape, seed).to(device), optimizer, model, device, world)
    transformer = Transformer(shape)
    initialise(transformer, model.parametrization, seed)
    if device.type == "cpu":
        compile_apart(shape.head_size)
        return CompiledEngine(transformer, optimizer, model, world)
    return TorchEngine(transformer.to(device), optimizer, model, device, world)


class TorchEngine:
    """Plain torch: the way on a GPU, in bfloat16, and of a model of the user's own; on a CPU also the reference that
    tests hold the compiled one to."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        model: Model,
        device: torch.device,
        world: World = ALONE,
    ):
        self.network, self.device, self.world = network, device, world
        self.optimizer = TorchOptimizer(network, optimizer, model)

    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> Tensor:
        """See Engine."""
        total, own = torch.zeros((), device=self.device), torch.from_numpy(self.world.part(windows)).to(self.device)
        for chunk in own.split(max(1, micro_batch // (windows.shape[1] - 1))) if len(own) else ():
            with arithmetic(self.device):
                loss = next_token_loss(self.network, chunk) * (len(chunk) / len(windows))
            loss.backward()
            total += loss.detach()
        if self.world.size > 1:
            self.world.add_up([*map(_gradient, self.network.parameters()), total])
        self.optimizer.step(factor)
        return total

    @torch.no_grad()
    def losses(self, windows: np.ndarray) -> np.ndarray:
        """See Engine."""
        with arithmetic(self.device):
            return next_token_loss(self.network, torch.from_numpy(windows).to(self.device), "none").cpu().numpy()

    def state(self) -> dict[str, Tensor]:
        """See Engine."""
        weights = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        return weights | self.optimizer.state()

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """See Engine."""
        self.network.load_state_dict({name: tensors[f"weights.{name}"] for name in self.network.state_dict()})
        self.optimizer.restore(tensors, num_steps)


def _gradient(parameter: nn.Parameter) -> Tensor:
    """The gradient, zero where this process had no part of the batch."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
