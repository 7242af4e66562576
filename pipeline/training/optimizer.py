"""Muon for hidden matrices and AdamW for the rest in torch, behind one step(rate_factor) and a state to be saved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.models.parametrization import learning_rates
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import Model
from pipeline.params import Optimizer as Settings

COEFFICIENTS = ((3.4445, -4.7750, 2.0315),) * 5
"""a, b, c of the polynomials a x + b x^3 + c x^5 that bring singular values of 0.002..1 to 0.65..1.25 (Jordan et al.
2024)."""


@dataclass(frozen=True)
class Blocks:
    """How Muon cuts the matrices of a stack: `rows` whole rows a block, whose update has a spectral norm of about
    `norm` times the rate."""

    rows: int
    norm: float


def blocks_of(shape: Shape) -> dict[str, Blocks]:
    """The blocks of each stack: q, k and v by head, the other matrices whole.

    A whole matrix has the norm sqrt(max(1, rows / columns)) of torch.optim.Muon. H heads, one above the other, have up
    to sqrt(H) times the norm of one, so a head has 2 / sqrt(H): that of a whole matrix at four heads.
    """
    H, C, X = shape.num_heads, shape.width, shape.mlp_ratio * shape.width
    return {
        "qkv": Blocks(shape.head_size, 2 / H**0.5),
        "out": Blocks(C, 1.0),
        "up": Blocks(X, max(1.0, X / C) ** 0.5),
        "down": Blocks(C, max(1.0, C / X) ** 0.5),
    }


def _blocks(model: nn.Module) -> dict[str, Blocks]:
    """The blocks of the model's matrices by name; those of a model of the user's own are whole."""
    if isinstance(model, Transformer):
        return blocks_of(model.shape)
    sides = {name: model.get_parameter(name).shape[-2:] for name in model.groups()["matrix"]}
    return {name: Blocks(rows, max(1.0, rows / columns) ** 0.5) for name, (rows, columns) in sides.items()}


def orthogonalise(G: Tensor) -> Tensor:
    """Nearly orthogonal matrices near a stack `G` (..., m, n) with m <= n: the same singular vectors, singular values
    near 1.

    X <- a X + b (X X^T) X + c (X X^T)^2 X for each of COEFFICIENTS, after X is divided by |(X X^T)^2|^(1/4), which lies
    between its largest singular value and m^(1/8) times that; the customary |X| can be m^(1/2) times as large, and the
    polynomials then leave the small singular values of wide models behind. Every iterate is a polynomial of A = X X^T
    times X, so the iteration runs on the m x m matrix A alone and X is multiplied once at the end.
    """
    X = G / (torch.linalg.matrix_norm(G, keepdim=True) + 1e-7)
    A = X @ X.mT
    part = (torch.linalg.matrix_norm(A @ A, keepdim=True) + 1e-14) ** -0.5
    A = A * part
    product = part.sqrt() * torch.eye(A.shape[-1], device=A.device, dtype=A.dtype)
    for number, (a, b, c) in enumerate(COEFFICIENTS):
        P = b * A + c * A @ A
        P.diagonal(dim1=-2, dim2=-1).add_(a)
        product = P @ product
        if number + 1 < len(COEFFICIENTS):
            A = P @ (P @ A)
    return product @ X


class Muon:
    """Momentum, orthogonalised block by block.

    Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982. Nesterov momentum in its lerp form, as in torch.optim.Muon,
    which does one matrix at a time and in bfloat16.
    """

    def __init__(self, model: nn.Module, rate: float, momentum: float, weight_decay: float):
        self.rate, self.momentum, self.weight_decay = rate, momentum, weight_decay
        self.blocks = _blocks(model)
        self.weights = {name: model.get_parameter(name) for name in self.blocks}
        self.state = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Moves the matrices by their gradients with `factor` times the peak rate."""
        rate = factor * self.rate
        for name, weight in self.weights.items():
            rows, columns = self.blocks[name].rows, weight.shape[-1]
            momentum = self.state[name].lerp_(weight.grad, 1 - self.momentum)
            direction = weight.grad.lerp(momentum, self.momentum).view(-1, rows, columns)
            direction = orthogonalise(direction.mT).mT if rows > columns else orthogonalise(direction)
            weight.mul_(1 - rate * self.weight_decay)
            weight.sub_(direction.reshape_as(weight), alpha=rate * self.blocks[name].norm)


class Optimizer:
    """The optimiser of a whole model: groups, peak rates and state, stepped with one rate factor."""

    def __init__(self, model: nn.Module, settings: Settings, shape_settings: Model):
        rates, self.muon = learning_rates(settings, shape_settings, model.shape.width), None
        if settings.kind == "muon":
            self.muon = Muon(model, rates["matrix"], settings.momentum, settings.weight_decay)
        moved = {
            name: rates[group]
            for group, names in model.groups().items()
            for name in names
            if group != "matrix" or self.muon is None
        }
        self.adam_names, self.peaks = list(moved), list(moved.values())
        self.adam = torch.optim.AdamW(
            [{"params": [model.get_parameter(name)], "lr": 0.0} for name in self.adam_names],
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
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
        """The tensors that a later `restore` needs, by name: `momentum.*` of Muon, `mean.*` and `square.*` of AdamW."""
        tensors = {} if self.muon is None else {f"momentum.{name}": value for name, value in self.muon.state.items()}
        for name, group in zip(self.adam_names, self.adam.param_groups, strict=True):
            moments = self.adam.state[group["params"][0]]
            tensors |= {f"mean.{name}": moments["exp_avg"], f"square.{name}": moments["exp_avg_sq"]}
        return tensors

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """Takes over a state that `state` returned after `num_steps` steps, to the same bits."""
        if self.muon is not None:
            for name, value in self.muon.state.items():
                value.copy_(tensors[f"momentum.{name}"])
        for name, group in zip(self.adam_names, self.adam.param_groups, strict=True):
            (parameter,) = group["params"]
            self.adam.state[parameter] = {
                "step": torch.tensor(float(num_steps), device=parameter.device),
                "exp_avg": tensors[f"mean.{name}"].to(parameter.device, copy=True),
                "exp_avg_sq": tensors[f"square.{name}"].to(parameter.device, copy=True),
            }
