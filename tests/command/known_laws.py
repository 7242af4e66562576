"""Tables of runs drawn from laws that are known, for the tests of the commands."""

import numpy as np
import polars as pl
from scipy.special import zeta

TRUTH = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
"""The law of arXiv 2203.15556, eq. 10."""


def loss(N, D):
    """L of TRUTH, nats/token."""
    return TRUTH["E"] + TRUTH["A"] / N ** TRUTH["alpha"] + TRUTH["B"] / D ** TRUTH["beta"]


def design(num_runs=60, seed=0):
    """(N, D) spread over three decades each, independent of one another."""
    random = np.random.default_rng(seed)
    span = random.uniform(0.0, 3.0, (2, num_runs))
    return 1e7 * 10 ** span[0], 1e9 * 10 ** span[1]


def noise(num_runs, sd, seed=1):
    """Factors e^(sd z), z Gaussian."""
    return np.exp(sd * np.random.default_rng(seed).standard_normal(num_runs))


def table(N, D, L, **more):
    """The columns N, D, L and `more` as a table."""
    return pl.DataFrame({"N": N, "D": D, "L": L} | more)


def gradient_flow(a, b, E=0.05):
    """Loss of N modes of power-law data after gradient flow for time t: sum k^-b e^(-2 k^-a t) + zeta(b, N + 1) + E."""
    N = np.unique(np.round(np.geomspace(10, 1000, 9)))
    t = np.geomspace(10**1.5, 1e5, 12)
    N, t = (column.ravel() for column in np.meshgrid(N, t, indexing="ij"))
    L = [np.sum(k**-b * np.exp(-2 * k**-a * time)) for k, time in zip((np.arange(1, n + 1) for n in N), t, strict=True)]
    return N, t, np.array(L) + zeta(b, N + 1) + E
