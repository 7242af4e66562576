"""Training in plain torch, operation by operation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.models.loss import next_token_loss
from pipeline.params import Model, Optimizer
from pipeline.training.device import arithmetic
from pipeline.training.optimizer import Muon
from pipeline.training.optimizer import Optimizer as TorchOptimizer
from pipeline.training.world import ALONE, World


class TorchEngine:
    """The way of a model of the user's own and of several GPUs together; on a CPU also the reference that tests hold
    the compiled engine to."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        model: Model,
        device: torch.device,
        world: World = ALONE,
        muon: type[Muon] = Muon,
    ):
        self.network, self.device, self.world = network, device, world
        self.optimizer = TorchOptimizer(network, optimizer, model, muon)

    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> Tensor:
        """See Engine."""
        self.optimizer.set_rates(factor)
        own = torch.from_numpy(self.world.part(windows)).to(self.device)
        return self._update(own, len(windows), micro_batch)

    def _update(self, own: Tensor, number: int, micro_batch: int) -> Tensor:
        """One update from `own`, this process's part of `number` windows; the mean loss of all before it."""
        total = self._gradient(own, number, micro_batch)
        if self.world.size > 1:
            self._add_up(total)
        self.optimizer.step()
        return total

    def _add_up(self, total: Tensor) -> None:
        """Replaces the gradient and `total` by their sums over all processes."""
        self.world.add_up([*map(_gradient_of, self.network.parameters()), total])

    def _gradient(self, own: Tensor, number: int, micro_batch: int) -> Tensor:
        """Adds the gradient of `own`'s share of the mean loss to the parameters'; returns that share."""
        total = torch.zeros((), device=self.device)
        for chunk, share in self._chunks(own, number, micro_batch):
            with arithmetic(self.device):
                loss = self._loss(chunk) * share
            loss.backward()
            total += loss.detach()
        return total

    def _chunks(self, own: Tensor, number: int, micro_batch: int) -> list[tuple[Tensor, float]]:
        """`own` by at most `micro_batch` tokens, each part with its share of `number` windows."""
        chunks = own.split(max(1, micro_batch // (own.shape[1] - 1))) if len(own) else ()
        return [(chunk, len(chunk) / number) for chunk in chunks]

    def _loss(self, windows: Tensor) -> Tensor:
        return next_token_loss(self.network, windows)

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


def _gradient_of(parameter: nn.Parameter) -> Tensor:
    """The gradient, zero where this process had no part of the batch."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
