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
def muon(weights, gradient, momentum, rows, columns, rate, beta, decay, coefficients):
    """One step of Muon (see training/optimizer.py) in place, on blocks of `rows` x `columns` of every matrix."""
    L, M, N = weights.shape
    m, n = min(rows, columns), max(rows, columns)
    x_mn, direction_mn = np.empty((m, n), f32), np.empty((m, n), f32)
    keep, size = f32(1 - rate * decay), f32(rate * np.sqrt(max(1.0, rows / columns)))
    for layer in range(L):
        for top in range(0, M, rows):
            for left in range(0, N, columns):
                place = (slice(top, top + rows), slice(left, left + columns))
                weight, g, v = weights[layer][place], gradient[layer][place], momentum[layer][place]
                _look_ahead(g, v, f32(beta), x_mn if rows <= columns else x_mn.T)
                _orthogonalise(x_mn, coefficients, direction_mn)
                _move(weight, direction_mn if rows <= columns else direction_mn.T, keep, size)


@compiled
def _look_ahead(gradient, momentum, beta, x):
    """The momentum takes in the gradient, and `x` is Nesterov's combination of both, of Frobenius norm 1."""
    rows, columns = gradient.shape
    total = f32(0)
    for i in range(rows):
        for j in range(columns):
            g = gradient[i, j]
            gradient[i, j] = f32(0)
            v = momentum[i, j] + (f32(1) - beta) * (g - momentum[i, j])
            momentum[i, j] = v
            value = g + beta * (v - g)
            x[i, j] = value
            total += value * value
    part = f32(1) / (np.sqrt(total) + f32(1e-7))
    for i in range(rows):
        for j in range(columns):
            x[i, j] *= part


@compiled
def _move(weight, direction, keep, size):
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            weight[i, j] = keep * weight[i, j] - size * direction[i, j]


@compiled
def _orthogonalise(x_mn, coefficients, out_mn):
    """See training/optimizer.py: `out_mn` = q(X X^T) X, the product q of all polynomials built on m x m matrices."""
    m = x_mn.shape[0]
    A, P, Q, R = np.empty((m, m), f32), np.empty((m, m), f32), np.empty((m, m), f32), np.empty((m, m), f32)
    np.dot(x_mn, x_mn.T, A)
    for k in range(len(coefficients)):
        a, b, c = coefficients[k]
        np.dot(A, A, P)
        p, flat = P.ravel(), A.ravel()
        for i in range(len(p)):
            p[i] = c * p[i] + b * flat[i]
        for i in range(m):
            P[i, i] += a
        if k == 0:
            Q[:] = P
        else:
            np.dot(P, Q, R)
            Q[:] = R
        if k + 1 < len(coefficients):
            np.dot(P, A, R)
            np.dot(P, R, A)
    np.dot(Q, x_mn, out_mn)
