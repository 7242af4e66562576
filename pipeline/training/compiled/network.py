"""The transformer of models/transformer.py as one compiled program: losses, and the gradient written out by hand.

Shapes: B windows, T positions, R = B T rows, C width, L layers, V vocabulary; weights of all layers are stacked.
"""

from __future__ import annotations

import numpy as np

from pipeline.training.compiled.attention import attend, attend_gradient
from pipeline.training.compiled.kernels import (
    add_and_normalise,
    add_normalise_gradient,
    compiled,
    cross_entropy,
    f32,
    squared_relu,
    squared_relu_gradient,
)


@compiled
def losses(weights, turn, lanes, windows):
    """Nats of every position (B, T) of `windows` (B, T + 1), int64."""
    B, T = windows.shape[0], windows.shape[1] - 1
    tape = _tape(weights, lanes, B, T)
    return _forward(weights, turn, lanes, windows, tape)[1].reshape(B, T)


@compiled
def loss_and_gradient(weights, turn, lanes, windows, share, gradient):
    """`share` times the mean loss of `windows`, nats/token, whose gradient is added to `gradient`."""
    embedding, qkv, out, up, down, head = weights
    d_embedding, d_qkv, d_out, d_up, d_down, d_head = gradient
    B, T = windows.shape[0], windows.shape[1] - 1
    R, C, H4 = B * T, embedding.shape[1], up.shape[1]
    tape = _tape(weights, lanes, B, T)
    normals, scales, first, q, k, v, attention, ys, us, squares, last, edge_scales = tape
    p_RV, losses_R = _forward(weights, turn, lanes, windows, tape)

    part = share / f32(R)
    for b in range(B):
        for t in range(T):
            p_RV[b * T + t, windows[b, t + 1]] -= f32(1)
    flat = p_RV.ravel()
    for i in range(len(flat)):
        flat[i] *= part
    dx_RC, back_RC = np.zeros((R, C), f32), np.empty((R, C), f32)
    dqkv_RX, du_RX = np.empty((R, 3 * C), f32), np.empty((R, H4), f32)
    _add(d_head, np.dot(p_RV.T, last))
    np.dot(p_RV, head, back_RC)
    add_normalise_gradient(dx_RC, back_RC, last, edge_scales[1])
    for layer in range(len(qkv) - 1, -1, -1):
        _add(d_down[layer], np.dot(dx_RC.T, squares[layer]))
        np.dot(dx_RC, down[layer], du_RX)
        squared_relu_gradient(us[layer], du_RX)
        _add(d_up[layer], np.dot(du_RX.T, normals[layer, 1]))
        np.dot(du_RX, up[layer], back_RC)
        add_normalise_gradient(dx_RC, back_RC, normals[layer, 1], scales[layer, 1])
        _add(d_out[layer], np.dot(dx_RC.T, ys[layer]))
        np.dot(dx_RC, out[layer], back_RC)
        attend_gradient(back_RC, turn, lanes, q[layer], k[layer], v[layer], attention[layer], dqkv_RX)
        _add(d_qkv[layer], np.dot(dqkv_RX.T, normals[layer, 0]))
        np.dot(dqkv_RX, qkv[layer], back_RC)
        add_normalise_gradient(dx_RC, back_RC, normals[layer, 0], scales[layer, 0])
    back_RC[:] = f32(0)
    add_normalise_gradient(back_RC, dx_RC, first, edge_scales[0])
    for b in range(B):
        for t in range(T):
            token = windows[b, t]
            for i in range(C):
                d_embedding[token, i] += back_RC[b * T + t, i]
    total = 0.0
    for row in range(R):
        total += losses_R[row]
    return share * total / R


@compiled
def _forward(weights, turn, lanes, windows, tape):
    """Probabilities (R, V) and losses (R,); what the backward pass needs is left in `tape`."""
    embedding, qkv, out, up, down, head = weights
    normals, scales, first, q, k, v, attention, ys, us, squares, last, edge_scales = tape
    B, T = windows.shape[0], windows.shape[1] - 1
    R, C = B * T, embedding.shape[1]
    x_RC, delta_RC = np.empty((R, C), f32), np.empty((R, C), f32)
    qkv_RX, logits_RV = np.empty((R, 3 * C), f32), np.empty((R, len(embedding)), f32)
    targets_R, losses_R = np.empty(R, np.int64), np.empty(R, f32)
    for b in range(B):
        for t in range(T):
            targets_R[b * T + t] = windows[b, t + 1]
            for i in range(C):
                delta_RC[b * T + t, i] = embedding[windows[b, t], i]
    x_RC[:] = f32(0)
    add_and_normalise(x_RC, delta_RC, first, edge_scales[0])
    x_RC[:] = first
    delta_RC[:] = f32(0)
    for layer in range(len(qkv)):
        add_and_normalise(x_RC, delta_RC, normals[layer, 0], scales[layer, 0])
        np.dot(normals[layer, 0], qkv[layer].T, qkv_RX)
        attend(qkv_RX, turn, lanes, q[layer], k[layer], v[layer], attention[layer], ys[layer])
        np.dot(ys[layer], out[layer].T, delta_RC)
        add_and_normalise(x_RC, delta_RC, normals[layer, 1], scales[layer, 1])
        np.dot(normals[layer, 1], up[layer].T, us[layer])
        squared_relu(us[layer], squares[layer])
        np.dot(squares[layer], down[layer].T, delta_RC)
    add_and_normalise(x_RC, delta_RC, last, edge_scales[1])
    np.dot(last, head.T, logits_RV)
    cross_entropy(logits_RV, targets_R, losses_R)
    return logits_RV, losses_R


@compiled
def _tape(weights, lanes, B, T):
    """Room for what the backward pass needs of the forward pass."""
    embedding, qkv, _, up, _, _ = weights
    L, R, C, X = len(qkv), B * T, embedding.shape[1], up.shape[1]
    P, K = B * (C // len(lanes)), len(lanes)
    return (
        np.empty((L, 2, R, C), f32),
        np.empty((L, 2, R), f32),
        np.empty((R, C), f32),
        np.empty((L, P, T, K), f32),
        np.empty((L, P, T, K), f32),
        np.empty((L, P, T, K), f32),
        np.empty((L, P, T, T), f32),
        np.empty((L, R, C), f32),
        np.empty((L, R, X), f32),
        np.empty((L, R, X), f32),
        np.empty((R, C), f32),
        np.empty((2, R), f32),
    )


@compiled
def _add(total, more):
    total, more = total.ravel(), more.ravel()
    for i in range(len(total)):
        total[i] += more[i]
