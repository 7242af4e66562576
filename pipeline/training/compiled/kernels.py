"""Loops that Numba compiles to vector code: norms, activation, attention's softmax, loss. All arrays fp32, C order.

Shapes: R = B T rows (windows times positions), C width, V vocabulary, T positions, K head size.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import config, njit

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
"""Sums may be reordered to vectors; not-a-number and infinity keep their meaning, since divergence must be seen."""
compiled = partial(njit, fastmath=FAST, cache=bool(config.CACHE_DIR), error_model="numpy")

f32 = np.float32
EPSILON = f32(1e-5)
LOG2_E = f32(1.4426950408889634)
LN2_HIGH, LN2_LOW = f32(0.693359375), f32(-2.12194440e-4)
"""ln 2 in two parts, the first with few enough bits that n times it is exact (Cody and Waite 1980)."""


@compiled(inline="always")
def exponential(x):
    """exp(x) of a number <= 0 to 2e-7 relative: 2^n times a polynomial of degree 6; x below -87 gives about
    1e-38, and what is not a number stays so."""
    x = f32(-87.0) if x < f32(-87.0) else x
    n = np.floor(x * LOG2_E + f32(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = f32(1 / 120) + r * f32(1 / 720)
    p = f32(1 / 6) + r * (f32(1 / 24) + r * p)
    p = f32(1) + r * (f32(1) + r * (f32(0.5) + r * p))
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def largest(row):
    """The greatest element, by the order of the bits, which compiles to vectors where that of floats does not; a row
    with something that is not a number gives that."""
    bits = row.view(np.int32)
    most = np.int32(-(2**31) + 1)
    for i in range(len(bits)):
        most = max(most, bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return np.int32(most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@compiled
def add_and_normalise(x_RC, more_RC, normal_RC, scale_R):
    """x += more, then layer norm without gain: `normal_RC` = (x - mean) / deviation a row, `scale_R` = 1 / deviation,
    where deviation^2 = variance + EPSILON."""
    R, C = x_RC.shape
    for row in range(R):
        total = f32(0)
        for i in range(C):
            value = x_RC[row, i] + more_RC[row, i]
            x_RC[row, i] = value
            total += value
        mean = total / f32(C)
        squares = f32(0)
        for i in range(C):
            squares += (x_RC[row, i] - mean) * (x_RC[row, i] - mean)
        scale = f32(1) / np.sqrt(squares / f32(C) + EPSILON)
        scale_R[row] = scale
        for i in range(C):
            normal_RC[row, i] = (x_RC[row, i] - mean) * scale


@compiled
def add_normalise_gradient(dx_RC, gradient_RC, normal_RC, scale_R):
    """dx += the gradient that layer norm passes back for `gradient_RC` at its output."""
    R, C = dx_RC.shape
    for row in range(R):
        mean, along = f32(0), f32(0)
        for i in range(C):
            mean += gradient_RC[row, i]
            along += gradient_RC[row, i] * normal_RC[row, i]
        mean /= f32(C)
        along /= f32(C)
        for i in range(C):
            dx_RC[row, i] += scale_R[row] * (gradient_RC[row, i] - mean - normal_RC[row, i] * along)


@compiled
def squared_relu(u, squared):
    """u = relu(u) in place, and `squared` = relu(u)^2 (So et al. 2021, arXiv 2109.08668)."""
    u, squared = u.ravel(), squared.ravel()
    for i in range(len(u)):
        value = max(u[i], f32(0))
        u[i] = value
        squared[i] = value * value


@compiled
def squared_relu_gradient(u, gradient):
    """gradient *= 2 relu(u), in place."""
    u, gradient = u.ravel(), gradient.ravel()
    for i in range(len(u)):
        gradient[i] *= f32(2) * u[i]


@compiled
def cross_entropy(logits_RV, targets_R, losses_R):
    """`losses_R` in nats; the logits become probabilities in place."""
    R, V = logits_RV.shape
    for row in range(R):
        most = largest(logits_RV[row])
        chosen = logits_RV[row, targets_R[row]] - most
        total = f32(0)
        for i in range(V):
            value = exponential(logits_RV[row, i] - most)
            logits_RV[row, i] = value
            total += value
        losses_R[row] = np.log(total) - chosen
        part = f32(1) / total
        for i in range(V):
            logits_RV[row, i] *= part


@compiled
def causal_softmax(scores_TT, scale, weights_TT):
    """Row i: softmax of scale * scores over columns 0..i, zero after. Whole rows are computed: loops of one length are
    faster than half the work."""
    T = scores_TT.shape[0]
    for row in range(T):
        for i in range(T):
            scores_TT[row, i] = scores_TT[row, i] if i <= row else f32(-np.inf)
        most = largest(scores_TT[row])
        total = f32(0)
        for i in range(T):
            value = exponential((scores_TT[row, i] - most) * scale)
            value = value if i <= row else f32(0)
            weights_TT[row, i] = value
            total += value
        part = f32(1) / total
        for i in range(T):
            weights_TT[row, i] *= part


@compiled
def causal_softmax_gradient(weights_TT, scale, gradient_TT):
    """Gradient at the scores in place of that at the weights: scale * w (g - sum w g)."""
    T = weights_TT.shape[0]
    for row in range(T):
        along = f32(0)
        for i in range(T):
            along += weights_TT[row, i] * gradient_TT[row, i]
        for i in range(T):
            gradient_TT[row, i] = scale * weights_TT[row, i] * (gradient_TT[row, i] - along)
