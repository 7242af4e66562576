"""The laws L(N, D) that can be fitted: values, formulas, gradients and compute-optimal allocations.

Letters: N parameters, D tokens, L loss (nats/token), C training FLOPs with C = 6 N D.

`log_loss` and `log_loss_gradient` are the one kernel behind every law. They work on the logarithms of the parameters,
theta = (ln E, ln A, ln alpha, ln B, ln beta[, ln q]), for a whole batch of thetas at once; x = ln N, y = ln D, or
both centred, in which case ln A and ln B are the sizes of the terms at the centre. Shapes: R thetas, k parameters,
n points.

    p = ln A - alpha x,   r = ln B - beta y,   t = ln(e^(q p) + e^(q r)) / q,   ln L = ln(E + e^t)
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOPS_PER_PARAMETER_TOKEN = 6.0
"""C = 6 N D: two FLOPs forward and four backward a parameter and token (arXiv 2001.08361, section 2.1)."""


@dataclass(frozen=True)
class Additive:
    """L = E + A / N^alpha + B / D^beta: reducible losses of model size and of data add (arXiv 2203.15556, eq. 2)."""

    name: ClassVar[str] = "additive"
    formula: ClassVar[str] = "L = E + A / N^alpha + B / D^beta"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2"
    low: ClassVar[tuple[float, ...]] = (1e-4, 1e-6, 0.01, 1e-6, 0.01)
    high: ClassVar[tuple[float, ...]] = (1.0, 1e3, 4.0, 1e3, 4.0)

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    @property
    def exponent(self) -> float:
        """The q of the q-form, 1 for this law."""
        return 1.0

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """The parameter names, in the order of theta."""
        return tuple(field.name for field in fields(cls))

    @property
    def theta(self) -> NDArray[np.float64]:
        """The logarithms of the parameters, shape (k,)."""
        return np.log(astuple(self))

    def loss(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        """L in nats/token for N parameters and D tokens, which broadcast against each other."""
        x, y = np.broadcast_arrays(np.log(np.asarray(N, float)), np.log(np.asarray(D, float)))
        return np.exp(log_loss(self.theta[None], x.ravel(), y.ravel())).reshape(x.shape)

    def log_gradient(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        """d ln L / d ln parameter, shape (n, k), at points N, D of shape (n,)."""
        return log_loss_gradient(self.theta[None], np.log(np.asarray(N, float)), np.log(np.asarray(D, float)))[1][0]

    @property
    def size_exponent(self) -> float:
        """The exponent a of N*(C) ~ C^a on C = 6 N D, a = beta / (alpha + beta); the same for every q."""
        return self.beta / (self.alpha + self.beta)

    def optimal_size(self, C: ArrayLike) -> NDArray[np.float64]:
        """N*(C) in parameters, the size of least loss on C = 6 N D FLOPs.

        (L - E)^q = A^q N^(-alpha q) + B^q D^(-beta q) is an additive law, so the closed form of arXiv 2203.15556,
        eq. 4, carries over: N* = G (C/6)^(beta/(alpha+beta)), G = (alpha A^q / (beta B^q))^(1/(q (alpha+beta))).
        """
        return optimal_size(self.theta[None], C)[0]


@dataclass(frozen=True)
class QForm(Additive):
    """L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q): q = 1 is Chinchilla, q -> infinity the larger term alone.

    With E = 0 and q = 1 / beta it is the form of arXiv 2001.08361, eq. 1.5.
    """

    name: ClassVar[str] = "q_form"
    formula: ClassVar[str] = "L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q)"
    source: ClassVar[str] = (
        "generalises arXiv 2203.15556, eq. 2 (q = 1) and arXiv 2001.08361, eq. 1.5 (E = 0, q = 1/beta)"
    )
    low: ClassVar[tuple[float, ...]] = (*Additive.low, 0.3)
    high: ClassVar[tuple[float, ...]] = (*Additive.high, 20.0)

    q: float

    @property
    def exponent(self) -> float:
        """The q of the q-form."""
        return self.q


Law = Additive
"""Any law: QForm is a subclass of Additive, its case q = 1."""

FORMS: tuple[type[Additive], ...] = (Additive, QForm)
"""The forms in order of their number of parameters: where two fit equally well, the earlier one is preferred."""


def log_loss(theta_Rk: NDArray, x_n: NDArray, y_n: NDArray) -> NDArray[np.float64]:
    """ln L, shape (R, n), for logarithmic parameters theta (R, k) at x = ln N, y = ln D of shape (n,)."""
    return _terms(theta_Rk, x_n, y_n)[-1]


def log_loss_gradient(theta_Rk: NDArray, x_n: NDArray, y_n: NDArray) -> tuple[NDArray, NDArray]:
    """(ln L of shape (R, n), d ln L / d theta of shape (R, n, k)).

    With s = P^q / (P^q + Q^q) the share of the size term and w = (L - E) / L, the columns are 1 - w, w s,
    -w s alpha x, w (1 - s), -w (1 - s) beta y and, for q, w (s p + (1 - s) r - t).
    """
    alpha, beta, q, p, r, t, log_L = _terms(theta_Rk, x_n, y_n)
    w = np.exp(t - log_L)
    share = np.exp(q * (p - t))
    of_size, of_data = w * share, w * (1.0 - share)
    columns = [1.0 - w, of_size, -of_size * alpha * x_n, of_data, -of_data * beta * y_n]
    if theta_Rk.shape[1] == 6:
        columns.append(w * (share * p + (1.0 - share) * r - t))
    return log_L, np.stack(columns, axis=-1)


def optimal_size(theta_Rk: NDArray, C: ArrayLike) -> NDArray[np.float64]:
    """N*(C), shape (R, number of C), for raw-unit logarithmic parameters theta; see `Additive.optimal_size`."""
    alpha, beta = np.exp(theta_Rk[:, 2]), np.exp(theta_Rk[:, 4])
    q = np.exp(theta_Rk[:, 5]) if theta_Rk.shape[1] == 6 else np.ones(len(theta_Rk))
    log_G = ((theta_Rk[:, 2] - theta_Rk[:, 4]) / q + theta_Rk[:, 1] - theta_Rk[:, 3]) / (alpha + beta)
    log_ND = np.log(np.atleast_1d(np.asarray(C, float)) / FLOPS_PER_PARAMETER_TOKEN)
    return np.exp(log_G[:, None] + (beta / (alpha + beta))[:, None] * log_ND)


def shift_centre(theta_Rk: NDArray, x_shift: float, y_shift: float) -> NDArray[np.float64]:
    """theta for x + x_shift, y + y_shift that gives the same ln L as `theta_Rk` gives for x, y.

    Fits run on centred x, y; shifting by the centre brings A and B to raw units (N in parameters, D in tokens).
    """
    shifted = theta_Rk.copy()
    shifted[:, 1] += np.exp(theta_Rk[:, 2]) * x_shift
    shifted[:, 3] += np.exp(theta_Rk[:, 4]) * y_shift
    return shifted


def _terms(theta_Rk: NDArray, x_n: NDArray, y_n: NDArray) -> tuple[NDArray, ...]:
    alpha, beta = np.exp(theta_Rk[:, 2:3]), np.exp(theta_Rk[:, 4:5])
    q = np.exp(theta_Rk[:, 5:6]) if theta_Rk.shape[1] == 6 else np.ones((len(theta_Rk), 1))
    p = theta_Rk[:, 1:2] - alpha * x_n
    r = theta_Rk[:, 3:4] - beta * y_n
    t = np.maximum(p, r) + np.log1p(np.exp(-q * np.abs(p - r))) / q
    log_E = theta_Rk[:, 0:1]
    log_L = np.maximum(log_E, t) + np.log1p(np.exp(-np.abs(log_E - t)))
    return alpha, beta, q, p, r, t, log_L
