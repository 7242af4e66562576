"""Causal attention with rotary positions, forward and backward, one window and head at a time.

Shapes: R = B T rows, C width, T positions, K head size, P = B H pairs of window and head. `lanes` is any tuple of
length K: its length is known to the compiler, which unrolls and vectorises the short loops over a head.
"""

from __future__ import annotations

import numpy as np

from pipeline.training.compiled.kernels import causal_softmax, causal_softmax_gradient, compiled, f32


@compiled
def attend(qkv_RX, turn, lanes, q_PTK, k_PTK, v_PTK, weights_PTT, y_RC):
    """Fills `y_RC` from queries, keys and values side by side in `qkv_RX` (R, 3 C); the rest is kept for the backward
    pass: queries and keys after rotation by `turn` (2, T, K), and the weights."""
    P, T, _ = q_PTK.shape
    C, K = y_RC.shape[1], len(lanes)
    H = C // K
    scale = f32(1) / np.sqrt(f32(K))
    scores_TT, x_TK = np.empty((T, T), f32), np.empty((T, K), f32)
    for pair in range(P):
        row, place = pair // H * T, pair % H * K
        _read(qkv_RX, row, place, lanes, x_TK)
        _turn(x_TK, turn[0], turn[1], f32(1), lanes, q_PTK[pair])
        _read(qkv_RX, row, C + place, lanes, x_TK)
        _turn(x_TK, turn[0], turn[1], f32(1), lanes, k_PTK[pair])
        _read(qkv_RX, row, 2 * C + place, lanes, v_PTK[pair])
        np.dot(q_PTK[pair], k_PTK[pair].T, scores_TT)
        causal_softmax(scores_TT, scale, weights_PTT[pair])
        np.dot(weights_PTT[pair], v_PTK[pair], x_TK)
        _write(x_TK, lanes, y_RC, row, place)


@compiled
def attend_gradient(dy_RC, turn, lanes, q_PTK, k_PTK, v_PTK, weights_PTT, dqkv_RX):
    """Fills `dqkv_RX`, the gradient at the input of `attend`, from that at its output."""
    P, T, _ = q_PTK.shape
    C, K = dy_RC.shape[1], len(lanes)
    H = C // K
    scale = f32(1) / np.sqrt(f32(K))
    d_TT, dy_TK, x_TK, d_TK = np.empty((T, T), f32), np.empty((T, K), f32), np.empty((T, K), f32), np.empty((T, K), f32)
    for pair in range(P):
        row, place = pair // H * T, pair % H * K
        _read(dy_RC, row, place, lanes, dy_TK)
        np.dot(weights_PTT[pair].T, dy_TK, d_TK)
        _write(d_TK, lanes, dqkv_RX, row, 2 * C + place)
        np.dot(dy_TK, v_PTK[pair].T, d_TT)
        causal_softmax_gradient(weights_PTT[pair], scale, d_TT)
        np.dot(d_TT, k_PTK[pair], x_TK)
        _turn(x_TK, turn[0], turn[1], f32(-1), lanes, d_TK)
        _write(d_TK, lanes, dqkv_RX, row, place)
        np.dot(d_TT.T, q_PTK[pair], x_TK)
        _turn(x_TK, turn[0], turn[1], f32(-1), lanes, d_TK)
        _write(d_TK, lanes, dqkv_RX, row, C + place)


@compiled
def _read(x, row, place, lanes, out_TK):
    """`out_TK` = the block of `x` whose first element is at (row, place)."""
    for t in range(len(out_TK)):
        for i in range(len(lanes)):
            out_TK[t, i] = x[row + t, place + i]


@compiled
def _write(x_TK, lanes, out, row, place):
    """The block of `out` whose first element is at (row, place) = `x_TK`."""
    for t in range(len(x_TK)):
        for i in range(len(lanes)):
            out[row + t, place + i] = x_TK[t, i]


@compiled
def _turn(x_TK, cosine_TK, sine_TK, way, lanes, out_TK):
    """`out_TK` = x with elements i and i + K / 2 turned as a pair, by the angle times `way`, 1 or -1."""
    half = len(lanes) // 2
    for t in range(len(x_TK)):
        for i in range(half):
            out_TK[t, i] = x_TK[t, half + i]
        for i in range(half):
            out_TK[t, half + i] = x_TK[t, i]
    x, cosine, sine, out = x_TK.ravel(), cosine_TK.ravel(), sine_TK.ravel(), out_TK.ravel()
    for i in range(len(x)):
        out[i] = x[i] * cosine[i] + way * out[i] * sine[i]
