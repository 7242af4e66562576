"""Muon for hidden matrices and AdamW for the rest in torch, behind one step and a state to be saved."""

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
    names = model.groups()["matrix"]
    if isinstance(model, Transformer):
        blocks = blocks_of(model.shape)
        return {name: blocks[name.rpartition(".")[2]] for name in names}
    sides = {name: model.get_parameter(name).shape[-2:] for name in names}
    return {name: Blocks(rows, max(1.0, rows / columns) ** 0.5) for name, (rows, columns) in sides.items()}


def orthogonalise(G: Tensor) -> Tensor:
    """Nearly orthogonal matrices near a stack `G` (B, m, n) with m <= n: the same singular vectors, singular values
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
    product = part.sqrt() * torch.eye(A.shape[-1], device=A.device, dtype=A.dtype).expand_as(A)
    for number, (a, b, c) in enumerate(COEFFICIENTS):
        P = torch.baddbmm(A, A, A, beta=b, alpha=c)  # and a I, which is added where P is used
        product = torch.baddbmm(product, P, product, beta=a)
        if number + 1 < len(COEFFICIENTS):
            half = torch.baddbmm(A, P, A, beta=a)
            A = torch.baddbmm(half, P, half, beta=a)
    return product @ X


class Muon:
    """Momentum, orthogonalised block by block.

    Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982. Nesterov momentum in its lerp form, as in torch.optim.Muon,
    which does one matrix at a time and in bfloat16.
    """

    def __init__(self, model: nn.Module, momentum: float, weight_decay: float):
        self.momentum, self.weight_decay = momentum, weight_decay
        self.blocks = _blocks(model)
        self.weights = {name: model.get_parameter(name) for name in self.blocks}
        self.state = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    @torch.no_grad()
    def step(self, rate: Tensor) -> None:
        """Moves the matrices by their gradients with the `rate`."""
        for name, weight in self.weights.items():
            momentum = self.state[name].lerp_(weight.grad, 1 - self.momentum)
            direction = self._levelled(weight.grad.lerp(momentum, self.momentum), self.blocks[name].rows)
            weight.mul_(1 - rate * self.weight_decay)
            weight.addcmul_(direction, rate, value=-self.blocks[name].norm)

    def _levelled(self, G: Tensor, rows: int) -> Tensor:
        """`G` with each block of so many `rows` orthogonalised."""
        blocks = G.view(-1, rows, G.shape[-1])
        return (orthogonalise(blocks.mT).mT if rows > G.shape[-1] else orthogonalise(blocks)).reshape_as(G)


class Optimizer:
    """The optimiser of a whole model: groups, peak rates and state.

    The rates are a tensor beside the weights, so that a step which was captured on a GPU reads those of today.
    """

    def __init__(self, model: nn.Module, settings: Settings, shape_settings: Model, muon: type[Muon] = Muon):
        peaks, self.muon = learning_rates(settings, shape_settings, model.shape.width), None
        if settings.kind == "muon":
            self.muon = muon(model, settings.momentum, settings.weight_decay)
        moved = {
            name: peaks[group]
            for group, names in model.groups().items()
            for name in names
            if group != "matrix" or self.muon is None
        }
        self.adam_names, self.parameters = list(moved), list(model.parameters())
        device = self.parameters[0].device
        of_muon = [] if self.muon is None else [peaks["matrix"]]
        self.peaks = torch.tensor([*moved.values(), *of_muon], device=device)
        self.rates = torch.zeros_like(self.peaks)
        self.adam = torch.optim.AdamW(
            [
                {"params": [model.get_parameter(name)], "lr": self.rates[number]}
                for number, name in enumerate(self.adam_names)
            ],
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.clip_norm = settings.clip_norm

    def set_rates(self, factor: float) -> None:
        """The next steps have `factor` times the peak rates."""
        torch.mul(self.peaks, factor, out=self.rates)

    def step(self) -> None:
        """One update with the rates that were set; forgets the gradients."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.adam.step()
        if self.muon is not None:
            self.muon.step(self.rates[-1])
        self.clear()

    def clear(self) -> None:
        """Forgets the gradients."""
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
