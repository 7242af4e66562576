"""Sums over infinitely many modes k^-a at the cost of a few hundred, which the models of this law share.

The first modes are taken one by one; beyond them a sum is an integral in ln k from k + 1/2 on (the midpoint rule, whose
error is of order k^-2), by Gauss and Legendre's rule; and beyond the last node a sum of powers is Hurwitz's zeta.
Leaving that tail out is the commonest error in such models when an exponent is close to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gamma, gammainc, zeta

ONE_BY_ONE = 128
NODES = 8
"""Nodes in each stretch of one unit of ln k."""
LAST = 1e12


def modes(last: float = LAST) -> tuple[np.ndarray, np.ndarray]:
    """(k, count): sum of count f(k) is the sum of f over the modes 1 to `last`, for f smooth in ln k."""
    ends = np.linspace(np.log(ONE_BY_ONE + 0.5), np.log(last + 0.5), int(np.ceil(np.log(last / ONE_BY_ONE))) + 1)
    place, weight = np.polynomial.legendre.leggauss(NODES)
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    k = np.exp(middle + half * place).ravel()
    first = np.arange(1.0, ONE_BY_ONE + 1)
    return np.concatenate([first, k]), np.concatenate([np.ones(ONE_BY_ONE), k * (half * weight).ravel()])


def beyond(power: float, last: Any = LAST) -> Any:
    """The sum of k^-power over all modes k > `last`."""
    return zeta(power, last + 1)


def decayed_beyond(power: float, a: float, rate: Any, N: Any) -> Any:
    """The sum of k^-power e^(-rate k^-a) over k > N, N from about 100 on, as an incomplete gamma function."""
    s = (power - 1) / a
    return gamma(s) / a * rate**-s * gammainc(s, rate * (N + 0.5) ** -a)
