"""The network and its kernel, layer by layer, at initialisation and through training.

Layer l reads A_l(x) and the gradient of f(x) with respect to its weights is B_l(x) A_l(x)^T, so that

    K(x, y) = sum_l (A_l(x) . A_l(y)) (B_l(x) . B_l(y)),

and a step of gradient descent needs the same two factors. The linearisation takes the same steps in closed form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import result, torch
from pipeline.planning.run_spec import RunSpec


def run_start(spec: RunSpec) -> RunResult:
    """`unlike`: the root mean square over draws of initial ReLU weights of |K_h - K_inf| / |K_inf|."""
    setup, random = spec.settings, torch.Generator().manual_seed(spec.seed)
    X = on_sphere(random, setup["num_train"], setup["num_inputs"])
    limit = torch.from_numpy(arc_cosine((X @ X.T).numpy() / setup["num_inputs"]))
    draws = (initial(random, setup["num_inputs"], setup["width"]) for _ in range(setup["num_draws"]))
    unlike = torch.stack([(kernel(weights, X, X, "relu") - limit).norm() / limit.norm() for weights in draws])
    return result({"unlike": float(unlike.square().mean().sqrt())})


def run_training(spec: RunSpec) -> RunResult:
    """`drift`, |dK| / |K| of the training; `foretold`, the same where training of f_lin ends; `apart`, |f - f_lin| /
    |f_lin| on test points."""
    setup, random = spec.settings, torch.Generator().manual_seed(spec.seed)
    X = on_sphere(random, setup["num_train"] + setup["num_test"], setup["num_inputs"])
    scalars = trained_apart(initial(random, setup["num_inputs"], setup["width"]), X, setup)
    if not np.isfinite(scalars["drift"]):
        return result(scalars, status="diverged", reason="the loss grows without end")
    return result(scalars)


def trained_apart(weights: list, X: Any, setup: dict) -> dict[str, float]:
    """The scalars of a training on the first `num_train` points of X, on the target x_1 x_2 + x_last of unit power."""
    n, alpha, rate, activation = (setup[name] for name in ("num_train", "alpha", "rate", "activation"))
    inside, target, start = X[:n], (X[:, 0] * X[:, 1] + X[:, -1])[:n, None], outputs(weights, X, activation)
    y, K_all = target / target.square().mean().sqrt(), kernel(weights, X, inside, activation)
    values, U = torch.linalg.eigh(K_all[:n])
    learned = 1 - (1 - rate * values / values[-1]) ** setup["steps"]
    dual = U @ ((learned / values)[:, None] * (U.T @ y))
    foretold = moved(weights, inside, activation, dual / alpha)
    for _ in range(setup["steps"]):
        residual = y - alpha * (outputs(weights, inside, activation) - start[:n])
        weights = moved(weights, inside, activation, residual * (rate / values[-1] / alpha))
    f, f_lin = alpha * (outputs(weights, X, activation) - start)[n:], (K_all @ dual)[n:]
    changes = [kernel(ended, inside, inside, activation) - K_all[:n] for ended in (weights, foretold)]
    drift, change = (float(dK.norm() / K_all[:n].norm()) for dK in changes)
    return {"drift": drift, "foretold": change, "apart": float((f - f_lin).norm() / f_lin.norm())}


def on_sphere(random: Any, num_points: int, num_inputs: int) -> Any:
    """Points drawn uniformly from the sphere |x|^2 = num_inputs."""
    points = torch.randn(num_points, num_inputs, generator=random, dtype=torch.double)
    return points * num_inputs**0.5 / points.norm(dim=1, keepdim=True)


def initial(random: Any, num_inputs: int, width: int) -> list:
    """Standard normal weights of two hidden layers and a readout."""
    shapes = (width, num_inputs), (width, width), (1, width)
    return [torch.randn(shape, generator=random, dtype=torch.double) for shape in shapes]


def factors(weights: list, X: Any, activation: str) -> tuple[list, list]:
    """(A, B) of every layer at the points X; ReLU carries a factor sqrt(2), so that K_inf is of order 1."""
    A, B, slopes, relu = [X / X.shape[1] ** 0.5], [torch.ones(len(X), 1).to(X)], [], activation == "relu"
    for W in weights[:-1]:
        Z, scale = A[-1] @ W.T, ((2 if relu else 1) / len(W)) ** 0.5
        A.append(scale * (Z.clamp(min=0) if relu else torch.erf(Z)))
        slopes.append(scale * ((Z > 0).to(Z) if relu else 2 / np.pi**0.5 * torch.exp(-Z * Z)))
    for W, slope in zip(weights[:0:-1], slopes[::-1], strict=True):
        B.insert(0, B[0] @ W * slope)
    return A, B


def outputs(weights: list, X: Any, activation: str) -> Any:
    """f(x), shape (points, 1)."""
    return factors(weights, X, activation)[0][-1] @ weights[-1].T


def kernel(weights: list, X: Any, Y: Any, activation: str) -> Any:
    """K(x, y), shape (points of X, points of Y)."""
    pairs = zip(*factors(weights, X, activation), *factors(weights, Y, activation), strict=True)
    return sum((a @ c.T) * (b @ d.T) for a, b, c, d in pairs)


def moved(weights: list, X: Any, activation: str, dual: Any) -> list:
    """The weights plus the gradient of sum_x dual(x) f(x)."""
    return [torch.addmm(W, (b * dual).T, a) for W, a, b in zip(weights, *factors(weights, X, activation), strict=True)]


def arc_cosine(cosine: np.ndarray) -> np.ndarray:
    """K_inf of ReLU as a function of x . y / num_inputs, on the sphere |x|^2 = num_inputs."""
    covariance = tangent = np.clip(cosine, -1, 1)
    for _ in range(2):
        angle = np.arccos(covariance)
        covariance = np.clip((np.sin(angle) + (np.pi - angle) * covariance) / np.pi, -1, 1)
        tangent = tangent * (1 - angle / np.pi) + covariance
    return tangent
