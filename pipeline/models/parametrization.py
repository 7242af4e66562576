"""Initial weights and learning rates as functions of width: muP, and the standard parametrization."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.models.transformer import Transformer
from pipeline.params import Model, Optimizer


def initialise(
    model: Transformer, parametrization: str, seed: int, fill: Callable[[Tensor, Tensor], object] = Tensor.copy_
) -> None:
    """Fills the weights in place, the same for one (shape, seed) on every device; `fill` (weight, values) writes one.

    Hidden matrices have standard deviation 1/sqrt(fan-in) and the embedding 0.02. Under muP (Yang et al. 2022, arXiv
    2203.03466, table 8) the head starts at zero, as do the matrices that write to the residual stream, so every layer's
    output is independent of width at the start. Under the standard parametrization these start at 1/sqrt(fan-in) too,
    the residual writers divided by sqrt(2 depth) (Radford et al. 2019). Weights are drawn layer by layer.
    """
    generator = torch.Generator().manual_seed(seed)
    standard = parametrization == "standard"
    residual_scale = (2 * model.shape.depth) ** -0.5 if standard else 0.0
    with torch.no_grad():
        for name, weight in model.in_turn():
            scale = {"out": residual_scale, "down": residual_scale, "head": float(standard)}.get(name, 1.0)
            spread = 0.02 if name == "embedding" else weight.shape[-1] ** -0.5
            fill(weight, torch.randn(weight.shape, generator=generator) * (spread * scale))


def learning_rates(optimizer: Optimizer, model: Model, width: int) -> dict[str, float]:
    """Peak learning rates of the groups "matrix", "vector", "embedding" and "head" at `width`; vectors are gains and
    biases, which only a model of the user's own has.

    Under muP the head's rate falls as base_width / width, and so does that of matrices under AdamW (arXiv 2203.03466).
    Muon's update has a spectral norm that does not depend on width, so its rate does not either (arXiv 2310.17813,
    2502.16982). The standard parametrization uses the same rates at every width.
    """
    shrink = model.base_width / width if model.parametrization == "mup" else 1.0
    return {
        "matrix": optimizer.matrix_rate * (shrink if optimizer.kind == "adamw" else 1.0),
        "vector": optimizer.embedding_rate,
        "embedding": optimizer.embedding_rate,
        "head": optimizer.head_rate * shrink,
    }
