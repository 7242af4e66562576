"""A model in training on one CPU core: the compiled network and optimisers over weights that torch initialised."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.models.parametrization import learning_rates
from pipeline.models.transformer import STACKS, Transformer, rotary_angles
from pipeline.params import Model, Optimizer
from pipeline.training.compiled import network
from pipeline.training.compiled.optimizer import adamw, muon
from pipeline.training.optimizer import COEFFICIENTS, blocks_of
from pipeline.training.world import ALONE, World

NAMES = ("embedding", *STACKS, "head")


class CompiledEngine:
    """The engine for CPUs (see training/engine.py); fp32, one thread, the same bits wherever the processor is the
    same."""

    def __init__(self, transformer: Transformer, optimizer: Optimizer, model: Model, world: World = ALONE):
        shape = self.shape = transformer.shape
        self.optimizer, self.world = optimizer, world
        rates = learning_rates(optimizer, model, shape.width)
        self.rates = {name: rates.get(name, rates["matrix"]) for name in NAMES}
        self.blocks = blocks_of(shape) if optimizer.kind == "muon" else {}
        self.coefficients = np.array(COEFFICIENTS, np.float32)
        weights = {name: getattr(transformer, name).detach().numpy() for name in NAMES}
        self.weights, self.gradient = tuple(weights.values()), tuple(map(np.zeros_like, weights.values()))
        self.moments = {
            f"{moment}.{name}": np.zeros_like(weights[name])
            for name in NAMES
            for moment in (("momentum",) if name in self.blocks else ("mean", "square"))
        }
        angles = rotary_angles(shape).numpy()
        cosine, sine = np.cos(angles), np.sin(angles)
        self.turn = np.stack([np.hstack([cosine, cosine]), np.hstack([-sine, sine])]).astype(np.float32)
        self.lanes = (0,) * shape.head_size
        self.num_steps = 0

    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> float:
        """See Engine."""
        own, rows, loss = self.world.part(windows), max(1, micro_batch // self.shape.context), np.zeros(1)
        for first in range(0, len(own), rows):
            chunk = own[first : first + rows]
            share = np.float32(len(chunk) / len(windows))
            loss += network.loss_and_gradient(self.weights, self.turn, self.lanes, chunk, share, self.gradient)
        self.world.add_up([torch.from_numpy(part) for part in self.gradient])
        self.world.add_up([torch.from_numpy(loss)])
        self._clip()
        self.num_steps += 1
        settings, moments = self.optimizer, self.moments
        for name, weight, gradient in zip(NAMES, self.weights, self.gradient, strict=True):
            rate = factor * self.rates[name]
            if name in self.blocks:
                muon(
                    weight,
                    gradient,
                    moments[f"momentum.{name}"],
                    self.blocks[name].rows,
                    self.blocks[name].norm,
                    rate,
                    settings.momentum,
                    settings.weight_decay,
                    self.coefficients,
                )
            else:
                adamw(
                    weight,
                    gradient,
                    moments[f"mean.{name}"],
                    moments[f"square.{name}"],
                    self.num_steps,
                    rate,
                    settings.beta1,
                    settings.beta2,
                    settings.weight_decay,
                )
        return float(loss[0])

    def losses(self, windows: np.ndarray) -> np.ndarray:
        """See Engine."""
        return network.losses(self.weights, self.turn, self.lanes, windows)

    def state(self) -> dict[str, Tensor]:
        """See Engine."""
        weights = {f"weights.{name}": weight for name, weight in zip(NAMES, self.weights, strict=True)}
        return {name: torch.from_numpy(array) for name, array in (weights | self.moments).items()}

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """See Engine."""
        for name, mine in self.state().items():
            mine.copy_(tensors[name])
        self.num_steps = num_steps

    def _clip(self) -> None:
        if self.optimizer.clip_norm is not None:
            norm = np.sqrt(sum(float(np.vdot(part, part)) for part in self.gradient))
            if norm > self.optimizer.clip_norm:
                for part in self.gradient:
                    part *= np.float32(self.optimizer.clip_norm / norm)
