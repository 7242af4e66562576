"""Causal attention with rotary positions, forward and backward, one window and head at a time.

Shapes: R = B T rows, C width, T positions, K head size, P = B H pairs of window and head.
"""

from __future__ import annotations

import numpy as np

from pipeline.training.compiled.kernels import causal_softmax, causal_softmax_gradient, compiled, f32


@compiled
def attend(qkv_RX, cosine_TK, sine_TK, q_PTK, k_PTK, v_PTK, weights_PTT, y_RC):
    """Fills `y_RC` from queries, keys and values side by side in `qkv_RX` (R, 3 C); the rest is kept for the backward
    pass: queries and keys after rotation, and the weights."""
    P, T, K = q_PTK.shape
    C = y_RC.shape[1]
    H = C // K
    scale = f32(1) / np.sqrt(f32(K))
    scores_TT, out_TK = np.empty((T, T), f32), np.empty((T, K), f32)
    for pair in range(P):
        row, place = pair // H * T, pair % H * K
        q_TK, k_TK, v_TK = q_PTK[pair], k_PTK[pair], v_PTK[pair]
        for t in range(T):
            _turn(qkv_RX[row + t, place : place + K], cosine_TK[t], sine_TK[t], q_TK[t])
            _turn(qkv_RX[row + t, C + place : C + place + K], cosine_TK[t], sine_TK[t], k_TK[t])
            for i in range(K):
                v_TK[t, i] = qkv_RX[row + t, 2 * C + place + i]
        np.dot(q_TK, k_TK.T, scores_TT)
        causal_softmax(scores_TT, scale, weights_PTT[pair])
        np.dot(weights_PTT[pair], v_TK, out_TK)
        for t in range(T):
            for i in range(K):
                y_RC[row + t, place + i] = out_TK[t, i]


@compiled
def attend_gradient(dy_RC, cosine_TK, sine_TK, q_PTK, k_PTK, v_PTK, weights_PTT, dqkv_RX):
    """Fills `dqkv_RX`, the gradient at the input of `attend`, from that at its output."""
    P, T, K = q_PTK.shape
    C = dy_RC.shape[1]
    H = C // K
    scale = f32(1) / np.sqrt(f32(K))
    d_TT, dy_TK, d_TK = np.empty((T, T), f32), np.empty((T, K), f32), np.empty((T, K), f32)
    for pair in range(P):
        row, place = pair // H * T, pair % H * K
        for t in range(T):
            for i in range(K):
                dy_TK[t, i] = dy_RC[row + t, place + i]
        np.dot(weights_PTT[pair].T, dy_TK, d_TK)
        for t in range(T):
            for i in range(K):
                dqkv_RX[row + t, 2 * C + place + i] = d_TK[t, i]
        np.dot(dy_TK, v_PTK[pair].T, d_TT)
        causal_softmax_gradient(weights_PTT[pair], scale, d_TT)
        np.dot(d_TT, k_PTK[pair], d_TK)
        for t in range(T):
            _turn_back(d_TK[t], cosine_TK[t], sine_TK[t], dqkv_RX[row + t, place : place + K])
        np.dot(d_TT.T, q_PTK[pair], d_TK)
        for t in range(T):
            _turn_back(d_TK[t], cosine_TK[t], sine_TK[t], dqkv_RX[row + t, C + place : C + place + K])


@compiled
def _turn(x_K, cosine_K, sine_K, out_K):
    for i in range(0, len(x_K), 2):
        out_K[i] = x_K[i] * cosine_K[i] - x_K[i + 1] * sine_K[i]
        out_K[i + 1] = x_K[i + 1] * cosine_K[i] + x_K[i] * sine_K[i]


@compiled
def _turn_back(x_K, cosine_K, sine_K, out_K):
    for i in range(0, len(x_K), 2):
        out_K[i] = x_K[i] * cosine_K[i] + x_K[i + 1] * sine_K[i]
        out_K[i + 1] = x_K[i + 1] * cosine_K[i] - x_K[i] * sine_K[i]
