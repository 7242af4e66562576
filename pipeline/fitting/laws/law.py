"""What every law L(N, D) is: a frozen value of named parameters with its loss, derivatives and optimum.

Letters: N parameters, D tokens, L loss (nats/token), C training FLOPs with C = 6 N D. Fits work on `theta`, one entry a
parameter: the logarithm where the parameter is positive (of its absolute value where it is negative), the parameter
itself where it may have either sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.laws.jets import variables
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, Variables

Sign = Literal["positive", "negative", "any"]
Amplitudes = Callable[[NDArray, list[NDArray]], list[NDArray]]
EXPONENT = (0.01, 4.0)
"""Exponents are sought in this range."""
MAP_EXPONENT = (0.05, 1.2)
"""Exponents of the starting map."""
AMPLITUDE = (1e-6, 1e3)
"""Terms at the centre of the runs are sought in this range, in multiples of the median measured loss."""
COARSE = 201
"""Sizes at which the search for an optimum first looks."""
OFFSET = (1e-4, 1.05)
"""The irreducible loss E is sought in this range, in multiples of the median measured loss; the least may be wrong."""


@dataclass(frozen=True)
class Law:
    """A law's common face; a subclass adds its parameters as fields, its formula and its source.

    `limits` bounds each parameter in centred units (amplitudes in multiples of the median measured loss where `scaled`
    names them); `map_ranges` the nonlinear parameters of the starting map; `columns` the columns it needs beside N and
    D; `levels` how many distinct values of N and D identify it.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    limits: ClassVar[dict[str, tuple[float, float]]]
    map_ranges: ClassVar[dict[str, tuple[float, float]]]
    scaled: ClassVar[tuple[str, ...]] = ("E", "A", "B", "K")
    signs: ClassVar[dict[str, Sign]] = {}
    columns: ClassVar[tuple[str, ...]] = ()
    levels: ClassVar[dict[str, int]] = {"N": 3, "D": 3}

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """The parameter names, in the order of theta."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L as a formula in theta (arrays or jets, each (R, 1)) at points `at` (each (n,))."""
        raise NotImplementedError

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """Parameters (S,) to start from at nonlinear guesses (S, 1), by `amplitudes`: linear least squares."""
        raise NotImplementedError

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """Parameters (R,) for N and D in raw units from those for N and D over their centre (ln centre given)."""
        raise NotImplementedError

    @classmethod
    def values(cls, theta_Rk: NDArray) -> dict[str, NDArray]:
        """Parameters by name, each (R,), of thetas (R, k)."""
        return {
            name: theta_Rk[:, i] if sign == "any" else np.exp(theta_Rk[:, i]) * (-1.0 if sign == "negative" else 1.0)
            for i, name in enumerate(cls.parameters())
            for sign in [cls.signs.get(name, "positive")]
        }

    @classmethod
    def thetas(cls, value: dict[str, ArrayLike]) -> NDArray[np.float64]:
        """Thetas (R, k) of parameters by name, each (R,)."""
        columns = []
        for name in cls.parameters():
            column = np.atleast_1d(np.asarray(value[name], float))
            columns.append(column if cls.signs.get(name) == "any" else np.log(np.abs(column)))
        return np.stack(np.broadcast_arrays(*columns), axis=1)

    @property
    def theta(self) -> NDArray[np.float64]:
        """This law's parameters on the scale of a fit, shape (k,)."""
        return self.thetas(dict(zip(self.parameters(), astuple(self), strict=True)))[0]

    def loss(self, N: ArrayLike, D: ArrayLike, **columns: ArrayLike) -> NDArray[np.float64]:
        """L in nats/token for N parameters and D tokens, which broadcast against each other and further `columns`."""
        N, D, *more = np.broadcast_arrays(*(np.asarray(value, float) for value in (N, D, *columns.values())))
        at = Variables.of(N.ravel(), D.ravel(), dict(zip(columns, (one.ravel() for one in more), strict=True)))
        return np.exp(log_losses(type(self), self.theta[None], at)[0]).reshape(N.shape)

    def gradient(self, N: ArrayLike, D: ArrayLike, **columns: ArrayLike) -> NDArray[np.float64]:
        """d ln L / d theta, shape (n, k), at points of shape (n,)."""
        at = Variables.of(N, D, columns)
        jet = self.log_loss(variables(self.theta[None]), at)
        return jet.gradient(len(self.theta), (1, len(at)))[0].T

    def hessian(self, N: ArrayLike, D: ArrayLike, **columns: ArrayLike) -> NDArray[np.float64]:
        """d^2 ln L / d theta_i d theta_j, shape (n, k, k), at points of shape (n,)."""
        at = Variables.of(N, D, columns)
        bends = self.log_loss(variables(self.theta[None]), at).bends
        H = np.zeros((len(at), len(self.theta), len(self.theta)))
        for (i, j), bend in bends.items():
            H[:, i, j] = H[:, j, i] = np.broadcast_to(bend, (1, len(at)))[0]
        return H

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """A, alpha, B, beta and q, each (R,), of the q-form that has the same N*(C); None for a law without one."""
        return None

    @classmethod
    def size_exponents(cls, value: dict[str, NDArray], columns: dict[str, float] | None = None) -> NDArray | None:
        """The exponent a of N*(C) ~ C^a on C = 6 N D, shape (R,); None for a law whose optimum is no power of C.

        a = beta / (alpha + beta) of the balance (arXiv 2203.15556, eq. 4), the same for every q.
        """
        found = cls.balance(value, columns or {})
        return None if found is None else found["beta"] / (found["alpha"] + found["beta"])

    @classmethod
    def optimal_sizes(
        cls, theta_Rk: NDArray, C: NDArray, columns: dict[str, float] | None = None
    ) -> NDArray[np.float64]:
        """N*(C) of raw-unit thetas, shape (R, number of C): in closed form where the law has a balance, else searched.

        (L - E)^q = A^q N^(-alpha q) + B^q D^(-beta q) is a sum of two powers, so arXiv 2203.15556, eq. 4, carries over:
        N* = G (C/6)^(beta/(alpha+beta)), G = (alpha A^q / (beta B^q))^(1/(q (alpha+beta))).
        """
        found = cls.balance(cls.values(theta_Rk), columns or {})
        if found is None:
            return searched_sizes(cls, theta_Rk, C, columns)
        alpha, beta = found["alpha"], found["beta"]
        log_G = (np.log(alpha / beta) / found["q"] + np.log(found["A"] / found["B"])) / (alpha + beta)
        log_ND = np.log(C / FLOPS_PER_PARAMETER_TOKEN)
        return np.exp(log_G[:, None] + (beta / (alpha + beta))[:, None] * log_ND)

    @property
    def size_exponent(self) -> float | None:
        """The exponent a of N*(C) ~ C^a on C = 6 N D, None for a law whose optimum is not a power of C."""
        found = self.size_exponents(self.values(self.theta[None]))
        return None if found is None else float(found[0])

    def optimal_size(self, C: ArrayLike, **columns: float) -> NDArray[np.float64]:
        """N*(C) in parameters, the size of least loss on C = 6 N D FLOPs; nan where there is no minimum."""
        return self.optimal_sizes(self.theta[None], np.atleast_1d(np.asarray(C, float)), columns)[0]


def log_losses(form: type[Law], theta_Rk: NDArray, at: Variables) -> NDArray[np.float64]:
    """ln L of every theta at every point, shape (R, n)."""
    value = form.log_loss([theta_Rk[:, i : i + 1] for i in range(theta_Rk.shape[1])], at)
    return np.broadcast_to(value, (len(theta_Rk), len(at)))


def searched_sizes(
    form: type[Law], theta_Rk: NDArray, C: NDArray, columns: dict[str, float] | None = None
) -> NDArray[np.float64]:
    """N*(C) of raw-unit thetas by a search in ln N, shape (R, number of C); nan without a minimum.

    A grid from 1 parameter to C / 6 (one token) brackets the minimum, which golden sections then narrow; a loss whose
    least value is at an end, such as that of a law of one variable, gives nan.
    """
    rows, budgets = len(theta_Rk), len(C)
    theta = np.repeat(theta_Rk, budgets, axis=0)
    parts = [theta[:, i : i + 1] for i in range(theta.shape[1])]
    log_ND = np.tile(np.log(C / FLOPS_PER_PARAMETER_TOKEN), rows)[:, None]
    more = (
        {name: np.asarray(value if name in Variables.labels else np.log(value)) for name, value in columns.items()}
        if columns
        else {}
    )

    def loss(x: NDArray) -> NDArray:
        return np.broadcast_to(form.log_loss(parts, Variables(x, log_ND - x, more)), x.shape)

    grid = np.linspace(0.0, 1.0, COARSE)
    coarse = np.concatenate([loss(share * log_ND) for share in grid], axis=1)
    best = np.argmin(coarse, axis=1)[:, None]
    inside = (best > 0) & (best < COARSE - 1)
    low, high = (grid[np.clip(best + step, 0, COARSE - 1)] * log_ND for step in (-1, 1))
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        span = ratio * (high - low)
        left, right = high - span, low + span
        lower = loss(left) < loss(right)
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    middle = (low + high) / 2.0
    return np.where(inside, np.exp(middle), np.nan).reshape(rows, budgets)
