"""AdamW and Muon as compiled loops over stacks of matrices; both clear the gradient that they used."""

from __future__ import annotations

import numpy as np

from pipeline.training.compiled.kernels import compiled, f32


@compiled
def adamw(weights, gradient, mean, square, number, rate, beta1, beta2, decay):
    """Step `number`, from 1, of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), in place."""
    weights, gradient, mean, square = weights.ravel(), gradient.ravel(), mean.ravel(), square.ravel()
    size, spread = f32(rate / (1 - beta1**number)), f32(1 / np.sqrt(1 - beta2**number))
    keep, new1, new2, epsilon = f32(1 - rate * decay), f32(1 - beta1), f32(1 - beta2), f32(1e-8)
    for i in range(len(weights)):
        g = gradient[i]
        gradient[i] = f32(0)
        mean[i] += new1 * (g - mean[i])
        square[i] += new2 * (g * g - square[i])
        weights[i] = keep * weights[i] - size * mean[i] / (np.sqrt(square[i]) * spread + epsilon)


@compiled
def muon(weights, gradient, momentum, rows, norm, rate, beta, decay, coefficients):
    """One step of Muon (see training/optimizer.py) in place, on blocks of `rows` whole rows of matrices (L, M, N),
    whose updates have spectral norm `norm` times `rate`."""
    L, M, N = weights.shape
    shape = (L * M // rows, rows, N)
    weights, gradient, momentum = weights.reshape(shape), gradient.reshape(shape), momentum.reshape(shape)
    keep, size = f32(1 - rate * decay), f32(rate * norm)
    x, direction = np.empty((rows, N), f32), np.empty((rows, N), f32)
    for block in range(len(weights)):
        _look_ahead(gradient[block].ravel(), momentum[block].ravel(), f32(beta), x.ravel())
        if rows <= N:
            np.dot(_polynomial(np.dot(x, x.T), coefficients), x, direction)
        else:
            np.dot(x, _polynomial(np.dot(x.T, x), coefficients), direction)
        weight, move = weights[block].ravel(), direction.ravel()
        for i in range(len(weight)):
            weight[i] = keep * weight[i] - size * move[i]


@compiled
def _look_ahead(gradient, momentum, beta, x):
    """The momentum takes in the gradient, and `x` is Nesterov's combination of both, of norm 1."""
    for i in range(len(x)):
        g = gradient[i]
        gradient[i] = f32(0)
        v = momentum[i] + (f32(1) - beta) * (g - momentum[i])
        momentum[i] = v
        x[i] = g + beta * (v - g)
    part = f32(1) / (_norm(x) + f32(1e-7))
    for i in range(len(x)):
        x[i] *= part


@compiled
def _norm(x):
    total = f32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return np.sqrt(total)


@compiled
def _polynomial(A, coefficients):
    """The matrix that brings the singular values of X near 1 when it multiplies X, from A = X X^T, which is used up."""
    m = len(A)
    P, Q, R = np.empty((m, m), f32), np.empty((m, m), f32), np.empty((m, m), f32)
    np.dot(A, A, P)
    part = f32(1) / np.sqrt(_norm(P.ravel()) + f32(1e-14))
    for k in range(len(coefficients)):
        a, b, c = coefficients[k]
        scale, square = f32(1), f32(1)
        if k == 0:
            scale, square = part, part * part
        else:
            np.dot(A, A, P)
        p, flat = P.ravel(), A.ravel()
        for i in range(len(p)):
            flat[i] *= scale
            p[i] = c * square * p[i] + b * flat[i]
        for i in range(m):
            P[i, i] += a
        if k == 0:
            first, result = P.ravel(), Q.ravel()
            for i in range(len(first)):
                result[i] = np.sqrt(part) * first[i]
        else:
            np.dot(P, Q, R)
            Q[:] = R
        if k + 1 < len(coefficients):
            np.dot(P, A, R)
            np.dot(P, R, A)
    return Q
