"""Values that carry their exact first and second derivatives by a law's parameters.

A law is written once, as a formula in `theta`; given arrays the formula gives values, given jets it gives values,
gradient and Hessian (forward mode, each rule exact). Shapes: R parameter vectors, n points, k parameters. Derivatives
are kept by parameter index, only where they are not zero, as anything that broadcasts to (R, n).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Slopes = dict[int, "NDArray | float"]
Bends = dict[tuple[int, int], "NDArray | float"]


class Jet:
    """A value with slopes d/d theta_i and bends d^2/(d theta_i d theta_j), i <= j."""

    __array_ufunc__ = None

    def __init__(self, value: NDArray | float, slopes: Slopes, bends: Bends):
        self.value, self.slopes, self.bends = value, slopes, bends

    def __add__(self, other: Jet | NDArray | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.slopes, self.bends)
        return Jet(self.value + other.value, _plus(self.slopes, other.slopes), _plus(self.bends, other.bends))

    def __mul__(self, other: Jet | NDArray | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value * other, _times(self.slopes, other), _times(self.bends, other))
        bends = _plus(_times(self.bends, other.value), _times(other.bends, self.value))
        for i, mine in self.slopes.items():
            for j, theirs in other.slopes.items():
                pair = (min(i, j), max(i, j))
                bends[pair] = bends.get(pair, 0.0) + mine * theirs * (2.0 if i == j else 1.0)
        # A pair i != j present in both orders is visited twice, once for each order, which is the product rule.
        return Jet(
            self.value * other.value, _plus(_times(self.slopes, other.value), _times(other.slopes, self.value)), bends
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Jet | NDArray | float) -> Jet:
        return self + (-other)

    def __rsub__(self, other: NDArray | float) -> Jet:
        return -self + other

    def __truediv__(self, other: Jet | NDArray | float) -> Jet:
        if not isinstance(other, Jet):
            return self * (1.0 / other)
        inverse = 1.0 / other.value
        return self * other.through(inverse, -(inverse**2), 2.0 * inverse**3)

    def __rtruediv__(self, other: NDArray | float) -> Jet:
        inverse = 1.0 / self.value
        return self.through(inverse, -(inverse**2), 2.0 * inverse**3) * other

    def through(self, value: NDArray, first: NDArray, second: NDArray) -> Jet:
        """The jet of f of this one, from f, f' and f'' at its value (chain rule)."""
        bends = _times(self.bends, first)
        for i, j in _pairs(self.slopes):
            bends[i, j] = bends.get((i, j), 0.0) + second * self.slopes[i] * self.slopes[j]
        return Jet(value, _times(self.slopes, first), bends)

    def gradient(self, num_parameters: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """d value / d theta as one array, shape (R, k, n) for `shape` (R, n)."""
        J = np.zeros((shape[0], num_parameters, shape[1]))
        for i, slope in self.slopes.items():
            J[:, i] = slope
        return J

    def newton_matrix(self, outer: NDArray, bent: NDArray, J: NDArray) -> NDArray[np.float64]:
        """sum over points of outer (R, n) times J J' less bent (R, n) times the Hessian, shape (R, k, k).

        `J` is `gradient`'s result.
        """
        matrix = np.matmul(J * outer[:, None, :], J.transpose(0, 2, 1))
        for (i, j), bend in self.bends.items():
            part = _weigh(bent, bend)
            matrix[:, i, j] -= part
            if i != j:
                matrix[:, j, i] -= part
        return matrix


class LogSumExp(Jet):
    """ln sum_k e^(term_k); derivatives are formed when asked for, and curvature without any array of Hessians.

    With shares p_k = e^(term_k - value): J = sum p_k S_k and H = sum p_k (S_k S_k' + T_k) - J J', S_k and T_k the
    gradient and Hessian of term k.
    """

    def __init__(self, terms: list[Jet]):
        self.terms = terms
        self.value, powers, total = _log_sum_exp([term.value for term in terms])
        self.shares = [power / total for power in powers]

    @cached_property
    def slopes(self) -> Slopes:
        """First derivatives."""
        total: Slopes = {}
        for share, term in zip(self.shares, self.terms, strict=True):
            total = _plus(total, _times(term.slopes, share))
        return total

    @cached_property
    def bends(self) -> Bends:
        """Second derivatives."""
        total: Bends = {}
        for share, term in zip(self.shares, self.terms, strict=True):
            total = _plus(total, _times(term.bends, share))
            for i, j in _pairs(term.slopes):
                total[i, j] = total.get((i, j), 0.0) + share * term.slopes[i] * term.slopes[j]
        for i, j in _pairs(self.slopes):
            total[i, j] = total.get((i, j), 0.0) - self.slopes[i] * self.slopes[j]
        return total

    def newton_matrix(self, outer: NDArray, bent: NDArray, J: NDArray) -> NDArray[np.float64]:
        """As for any jet; the part - J J' of the Hessian joins the first sum."""
        matrix = np.matmul(J * (outer + bent)[:, None, :], J.transpose(0, 2, 1))
        for share, term in zip(self.shares, self.terms, strict=True):
            of_term = bent * share
            for i, j in _pairs(term.slopes):
                part = _weigh(of_term, term.slopes[i] * term.slopes[j] + term.bends.get((i, j), 0.0))
                matrix[:, i, j] -= part
                if i != j:
                    matrix[:, j, i] -= part
        return matrix


def variables(theta_Rk: NDArray) -> list[Jet]:
    """The parameters themselves as jets, each of value shape (R, 1)."""
    return [Jet(theta_Rk[:, i : i + 1], {i: 1.0}, {}) for i in range(theta_Rk.shape[1])]


def exp(u: Jet | NDArray) -> Jet | NDArray:
    """e^u."""
    if not isinstance(u, Jet):
        return np.exp(u)
    value = np.exp(u.value)
    return u.through(value, value, value)


def log(u: Jet | NDArray) -> Jet | NDArray:
    """ln u."""
    if not isinstance(u, Jet):
        return np.log(u)
    inverse = 1.0 / u.value
    return u.through(np.log(u.value), inverse, -(inverse**2))


def log_sum_exp(*terms: Jet | NDArray) -> Jet | NDArray:
    """ln of the sum of e^term: how additive losses look on a logarithmic scale."""
    if any(isinstance(term, Jet) for term in terms):
        return LogSumExp([term if isinstance(term, Jet) else Jet(term, {}, {}) for term in terms])
    return _log_sum_exp(list(terms))[0]


def lesser(u: Jet | NDArray, v: Jet | NDArray) -> Jet | NDArray:
    """min(u, v), with the derivatives of the one that is smaller."""
    if not isinstance(u, Jet) and not isinstance(v, Jet):
        return np.minimum(u, v)
    u, v = (term if isinstance(term, Jet) else Jet(term, {}, {}) for term in (u, v))
    of_u = (u.value <= v.value).astype(float)
    return u * of_u + v * (1.0 - of_u)


def _log_sum_exp(values: list[NDArray]) -> tuple[NDArray, list[NDArray], NDArray]:
    """(ln sum_k e^(v_k), e^(v_k - largest) for each k, their sum)."""
    largest = values[0]
    for value in values[1:]:
        largest = np.maximum(largest, value)
    powers = [np.exp(value - largest) for value in values]
    total = powers[0] + powers[1]
    for power in powers[2:]:
        total = total + power
    return largest + np.log(total), powers, total


def _pairs(slopes: Slopes) -> list[tuple[int, int]]:
    indices = sorted(slopes)
    return [(i, j) for place, i in enumerate(indices) for j in indices[place:]]


def _plus(first: dict, second: dict) -> dict:
    total = dict(first)
    for key, value in second.items():
        total[key] = total[key] + value if key in total else value
    return total


def _times(derivatives: dict, factor: NDArray | float) -> dict:
    return {key: value * factor for key, value in derivatives.items()}


def _weigh(weights: NDArray, values: NDArray | float) -> NDArray:
    """sum over n of weights (R, n) times values, which broadcast to (R, n)."""
    if np.ndim(values) == 0:
        return weights.sum(axis=1) * values
    if np.ndim(values) == 1:
        return weights @ values
    if values.shape[1] == 1:
        return weights.sum(axis=1) * values[:, 0]
    return np.einsum("rn,rn->r", weights, np.broadcast_to(values, weights.shape))
