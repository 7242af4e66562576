"""Two measured studies of byte-level language models, as facts: N is body plus head, L in nats a byte.

S4 has head size 16 everywhere, S5 a head size of min(width, 32) with nominal token counts; both used one seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws import Chinchilla, QForm

DEPTH, VOCABULARY = 3, 256

S4_WIDTHS = (16, 32, 48, 64, 96)
S4_TOKENS = (300_288, 600_576, 1_200_640, 2_400_704, 4_801_024)
S4_LOSS = (
    (2.2103, 1.9590, 1.8629, 1.8061, 1.7382),
    (2.1175, 1.8113, 1.7022, 1.6410, 1.5744),
    (2.0323, 1.6950, 1.5832, 1.5187, 1.4475),
    (1.9636, 1.6073, 1.4920, 1.4222, 1.3514),
    (1.9017, 1.5412, 1.4225, 1.3521, 1.2744),
)
S5_WIDTHS = (24, 32, 48, 64, 96, 136)
S5_TOKENS = (150_000, 300_000, 600_000, 1_200_000, 2_400_000)
S5_LOSS = (
    (2.2412, 2.1683, 2.0636, 2.0101, 1.9651, 1.9278),
    (2.0540, 1.9716, 1.8604, 1.7840, 1.7393, 1.6998),
    (1.9251, 1.8344, 1.7123, 1.6373, 1.5787, 1.5416),
    (1.8278, 1.7197, 1.6000, 1.5238, 1.4590, 1.4170),
    (1.7419, 1.6385, 1.5115, 1.4276, 1.3636, 1.3194),
)

ADDITIVE_TRUTH = Chinchilla(E=0.95, A=0.284 * 1e5**0.446, alpha=0.446, B=0.378 * 1e6**0.414, beta=0.414)
Q_TRUTH = QForm(E=0.81, A=0.479 * 1e5**0.354, alpha=0.354, B=0.524 * 1e6**0.357, beta=0.357, q=1.48)
"""Known surfaces of about the shape of S5, for tests that need a truth."""


def study(name: str) -> tuple[NDArray, NDArray, NDArray]:
    """(N parameters, D tokens, L nats/token) of "S4" or "S5", one entry a run."""
    widths, tokens, loss = {"S4": (S4_WIDTHS, S4_TOKENS, S4_LOSS), "S5": (S5_WIDTHS, S5_TOKENS, S5_LOSS)}[name]
    N, D = grid([12 * DEPTH * width**2 + VOCABULARY * width for width in widths], tokens)
    return N, D, np.array(loss).ravel()


def grid(sizes: list[int], tokens: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """Every size at every token count, token counts outermost, as floats."""
    N, D = np.meshgrid(np.array(sizes, float), np.array(tokens, float))
    return N.ravel(), D.ravel()
