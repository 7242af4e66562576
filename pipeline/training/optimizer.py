"""Muon for hidden matrices and AdamW for the rest, behind one step(rate_factor), with a state that can be saved."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.parametrization import learning_rates
from pipeline.models.transformer import Transformer
from pipeline.params import Model
from pipeline.params import Optimizer as Settings

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


def orthogonalise(G: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices to a stack `G` (..., m, n) with m <= n, singular values in about 0.7..1.2.

    Newton-Schulz iteration X <- a X + b (X X^T) X + c (X X^T)^2 X with the coefficients of Jordan et al. 2024 (Muon;
    Liu et al. 2025, arXiv 2502.16982). Every iterate is a polynomial of A = X X^T times X, so where n is larger than m
    the iteration runs on the m x m matrix A alone and X is multiplied once at the end: 50 m^3 in place of 90 m^3
    multiply-adds at n = 4 m.
    """
    a, b, c = COEFFICIENTS
    X = G / (torch.linalg.matrix_norm(G, keepdim=True) + 1e-7)
    if G.shape[-1] == G.shape[-2]:
        for _ in range(NUM_ITERATIONS):
            A = X @ X.mT
            X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
        return X
    A = X @ X.mT
    identity = torch.eye(A.shape[-1], device=A.device, dtype=A.dtype)
    product = None
    for iteration in range(NUM_ITERATIONS):
        P = torch.baddbmm(A, A, A, beta=b, alpha=c) + a * identity
        product = P if product is None else P @ product
        if iteration + 1 < NUM_ITERATIONS:
            A = P @ (P @ A)
    return product @ X


class Muon:
    """Momentum, orthogonalised: one update of spectral norm about rate * sqrt(max(1, rows / columns)) a matrix.

    The matrices of all layers are updated as two stacks: q, k, v and out as `width` x `width` blocks, and up^T and down
    as `width` x `hidden` blocks. torch.optim.Muon does the same one matrix at a time and in bfloat16; on CPU cores the
    stacks are several times faster. Nesterov momentum in its lerp form, as there.
    """

    def __init__(self, model: Transformer, rate: float, momentum: float, weight_decay: float):
        shape = model.shape
        self.rate, self.momentum, self.weight_decay = rate, momentum, weight_decay
        self.blocks = list(model.blocks)
        self.width, self.hidden = shape.width, shape.mlp_ratio * shape.width
        device = model.head.device
        self.state = {
            "square": torch.zeros(4 * shape.depth, self.width, self.width, device=device),
            "wide": torch.zeros(2 * shape.depth, self.width, self.hidden, device=device),
        }

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Moves the matrices by their gradients with `factor` times the peak rate."""
        square = torch.cat([g for block in self.blocks for g in (block.qkv.grad, block.out.grad)])
        wide = torch.cat([g for block in self.blocks for g in (block.up.grad.mT, block.down.grad)])
        square = self._direction(square.view_as(self.state["square"]), self.state["square"])
        wide = self._direction(wide.view_as(self.state["wide"]), self.state["wide"])
        rate = factor * self.rate
        weights, updates = [], []
        for layer, block in enumerate(self.blocks):
            weights += [block.qkv, block.out, block.up, block.down]
            updates += [square[4 * layer : 4 * layer + 3].view_as(block.qkv), square[4 * layer + 3]]
            updates += [wide[2 * layer].mT * (self.hidden / self.width) ** 0.5, wide[2 * layer + 1]]
        if self.weight_decay:
            torch._foreach_mul_(weights, 1 - rate * self.weight_decay)
        torch._foreach_add_(weights, updates, alpha=-rate)

    def _direction(self, gradient: Tensor, momentum: Tensor) -> Tensor:
        momentum.lerp_(gradient, 1 - self.momentum)
        return orthogonalise(gradient.lerp(momentum, self.momentum))


class Optimizer:
    """The optimiser of a whole model: groups, peak rates and state, stepped with one rate factor."""

    def __init__(self, model: Transformer, settings: Settings, shape_settings: Model):
        rates = learning_rates(settings, shape_settings, model.shape.width)
        groups = [
            {"params": [model.embedding], "lr": rates["embedding"]},
            {"params": [model.head], "lr": rates["head"]},
        ]
        self.muon = None
        if settings.kind == "muon":
            self.muon = Muon(model, rates["matrix"], settings.momentum, settings.weight_decay)
        else:
            groups.append({"params": list(model.blocks.parameters()), "lr": rates["matrix"]})
        self.adam = torch.optim.AdamW(
            groups, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay, fused=True
        )
        self.peaks = [group["lr"] for group in self.adam.param_groups]
        self.parameters = list(model.parameters())
        self.clip_norm = settings.clip_norm

    def step(self, factor: float) -> None:
        """One update with `factor` times the peak rates; clears the gradients."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        for group, peak in zip(self.adam.param_groups, self.peaks, strict=True):
            group["lr"] = factor * peak
        self.adam.step()
        if self.muon is not None:
            self.muon.step(factor)
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """The tensors that a later `restore` needs, by name."""
        tensors = {} if self.muon is None else {f"muon.{name}": value for name, value in self.muon.state.items()}
        for index, parameter_state in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in parameter_state.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over a state that `state` returned, to the same bits."""
        if self.muon is not None:
            for name, value in self.muon.state.items():
                value.copy_(tensors[f"muon.{name}"])
        whole = self.adam.state_dict()
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                whole["state"].setdefault(int(index), {})[name] = value.clone()
        self.adam.load_state_dict(whole)
