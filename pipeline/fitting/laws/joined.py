"""Laws in which the parts of size and of data are joined otherwise than by a plain sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws.chinchilla import Chinchilla
from pipeline.fitting.laws.jets import exp, log_sum_exp
from pipeline.fitting.laws.law import AMPLITUDE, EXPONENT, Amplitudes, Law
from pipeline.fitting.points import Variables


@dataclass(frozen=True)
class QForm(Chinchilla):
    """L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q): q = 1 is Chinchilla, q -> infinity the larger term alone.

    With E = 0 and q = 1 / beta it is the form of arXiv 2001.08361, eq. 1.5.
    """

    name: ClassVar[str] = "q_form"
    formula: ClassVar[str] = "L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q)"
    source: ClassVar[str] = (
        "generalises arXiv 2203.15556, eq. 2 (q = 1) and arXiv 2001.08361, eq. 1.5 (E = 0, q = 1/beta)"
    )
    limits: ClassVar = {**Chinchilla.limits, "q": (0.3, 20.0)}
    map_ranges: ClassVar = {**Chinchilla.map_ranges, "q": (0.6, 8.0), "share_of_E": (0.02, 0.98)}

    q: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln E) + e^t), t = ln(e^(q p) + e^(q r)) / q, p and r the logarithms of the two terms."""
        ln_E, ln_A, ln_alpha, ln_B, ln_beta, ln_q = theta
        q = exp(ln_q)
        size, data = ln_A - exp(ln_alpha) * at.ln_N, ln_B - exp(ln_beta) * at.ln_D
        return log_sum_exp(ln_E, log_sum_exp(q * size, q * data) * exp(-ln_q))

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """A^q and B^q by linear least squares on (L - E)^q at given alpha, beta, q and E."""
        q, E = guess["q"], guess["share_of_E"] * L.min()
        powers = [np.exp(-guess["alpha"] * q * at.ln_N), np.exp(-guess["beta"] * q * at.ln_D)]
        A, B = amplitudes((L - E) ** q, powers)
        return {"E": E[:, 0], "A": A ** (1 / q[:, 0]), "B": B ** (1 / q[:, 0])}

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """The law itself."""
        return value


@dataclass(frozen=True)
class Kaplan(Law):
    """L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D (arXiv 2001.08361, eq. 1.5)."""

    name: ClassVar[str] = "kaplan"
    formula: ClassVar[str] = "L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5"
    limits: ClassVar = {"N_c": (1e-30, 1e60), "alpha_N": EXPONENT, "D_c": (1e-30, 1e60), "alpha_D": EXPONENT}
    map_ranges: ClassVar = {"alpha_N": (0.01, 0.8), "alpha_D": (0.01, 0.8)}

    N_c: float
    alpha_N: float
    D_c: float
    alpha_D: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = alpha_D ln(e^(alpha_N / alpha_D (ln N_c - ln N)) + e^(ln D_c - ln D))."""
        ln_N_c, ln_alpha_N, ln_D_c, ln_alpha_D = theta
        size = exp(ln_alpha_N - ln_alpha_D) * (ln_N_c - at.ln_N)
        return log_sum_exp(size, ln_D_c - at.ln_D) * exp(ln_alpha_D)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """N_c and D_c by linear least squares on L^(1 / alpha_D) at given exponents."""
        ratio = guess["alpha_N"] / guess["alpha_D"]
        size, data = amplitudes(L ** (1 / guess["alpha_D"]), [np.exp(-ratio * at.ln_N), np.exp(-at.ln_D)])
        return {"N_c": size ** (1 / ratio[:, 0]), "D_c": data}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """N_c in parameters and D_c in tokens."""
        return value | {"N_c": value["N_c"] * np.exp(centre.ln_N), "D_c": value["D_c"] * np.exp(centre.ln_D)}

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """The q-form without E of A = N_c^alpha_N, B = D_c^alpha_D and q = 1 / alpha_D."""
        alpha, beta = value["alpha_N"], value["alpha_D"]
        return {"A": value["N_c"] ** alpha, "alpha": alpha, "B": value["D_c"] ** beta, "beta": beta, "q": 1.0 / beta}


@dataclass(frozen=True)
class Interaction(Chinchilla):
    """L = E + A / N^alpha + B / D^beta + K / (N^alpha D^beta)^gamma: a third term in which size and data meet."""

    name: ClassVar[str] = "interaction"
    formula: ClassVar[str] = "L = E + A / N^alpha + B / D^beta + K / (N^alpha D^beta)^gamma"
    source: ClassVar[str] = "arXiv 2203.15556, eq. 2, with a product term; own extension"
    limits: ClassVar = {**Chinchilla.limits, "K": AMPLITUDE, "gamma": (0.02, 4.0)}
    map_ranges: ClassVar = {**Chinchilla.map_ranges, "gamma": (0.1, 3.0)}

    K: float
    gamma: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln of the sum of four terms."""
        ln_E, ln_A, ln_alpha, ln_B, ln_beta, ln_K, ln_gamma = theta
        size, data = exp(ln_alpha) * at.ln_N, exp(ln_beta) * at.ln_D
        return log_sum_exp(ln_E, ln_A - size, ln_B - data, ln_K - exp(ln_gamma) * (size + data))

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E, A, B and K by linear least squares at given exponents."""
        size, data = guess["alpha"] * at.ln_N, guess["beta"] * at.ln_D
        powers = [np.ones((1, 1)), np.exp(-size), np.exp(-data), np.exp(-guess["gamma"] * (size + data))]
        E, A, B, K = amplitudes(L, powers)
        return {"E": E, "A": A, "B": B, "K": K}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """A, B and K in raw units."""
        shift = value["alpha"] * centre.ln_N + value["beta"] * centre.ln_D
        return Chinchilla.uncentred(value, centre) | {"K": value["K"] * np.exp(value["gamma"] * shift)}

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """None: the product term bends N*(C)."""
        return None
