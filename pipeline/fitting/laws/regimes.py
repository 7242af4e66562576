"""Laws of particular regimes: repeated data, over-training at one exponent, and two recipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws.chinchilla import Chinchilla, Tied
from pipeline.fitting.laws.jets import exp, lesser, log, log_sum_exp
from pipeline.fitting.laws.law import AMPLITUDE, OFFSET, Amplitudes, Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, Variables

NEVER_REPEATED = 1e-9
"""Excess parameters and repetitions below this fraction count as this fraction, so that their logarithm exists."""


@dataclass(frozen=True)
class DataConstrained(Chinchilla):
    """L = E + A / N'^alpha + B / D'^beta with D' = U_D (1 + R_D (1 - e^(-r_D / R_D))), r_D = D / U_D - 1.

    U_D are unique tokens (column `unique_tokens`). N' is the same function of U_N = min(N, N_opt(U_D)), r_N = N / U_N -
    1 and R_N, where N_opt(U_D) is the size whose optimum under the law without repetition trains on U_D tokens.
    """

    name: ClassVar[str] = "data_constrained"
    formula: ClassVar[str] = (
        "L = E + A / N'^alpha + B / D'^beta, X' = U_X (1 + R_X (1 - exp(-(X / U_X - 1) / R_X))), "
        "U_N = min(N, N_opt(U_D))"
    )
    source: ClassVar[str] = "Muennighoff et al. 2023, arXiv 2305.16264, eqs. 5 and 6"
    limits: ClassVar = {**Chinchilla.limits, "R_D": (1e-2, 1e4), "R_N": (1e-2, 1e4)}
    map_ranges: ClassVar = {**Chinchilla.map_ranges, "R_D": (1.0, 60.0), "R_N": (1.0, 60.0)}
    columns: ClassVar[tuple[str, ...]] = ("unique_tokens",)

    R_D: float
    R_N: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln of Chinchilla's sum at the effective N' and D'."""
        ln_E, ln_A, ln_alpha, ln_B, ln_beta, ln_R_D, ln_R_N = theta
        alpha, beta = exp(ln_alpha), exp(ln_beta)
        unique = at.more["unique_tokens"]
        ln_G = (ln_alpha + ln_A - ln_beta - ln_B) / (alpha + beta)
        optimal = beta / alpha * (unique + ln_G) + ln_G
        base = lesser(optimal, at.ln_N)
        size = base + _repeated(at.ln_N - base, ln_R_N)
        data = unique + _repeated(at.ln_D - unique, ln_R_D)
        return log_sum_exp(ln_E, ln_A - alpha * size, ln_B - beta * data)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E, A and B by linear least squares at given exponents and R_D, with N for N'."""
        unique = at.more["unique_tokens"]
        data = unique + _repeated(at.ln_D - unique, np.log(guess["R_D"]))
        return Chinchilla.start(guess, L, Variables(at.ln_N, data), amplitudes)

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """None: repetition bends N*(C)."""
        return None


@dataclass(frozen=True)
class OverTraining(Law):
    """L = E + a N^c + b 6^(c/2) D^c: one exponent c < 0 for every ratio of tokens to parameters."""

    name: ClassVar[str] = "over_training"
    formula: ClassVar[str] = "L = E + a N^c + b 6^(c/2) D^c"
    source: ClassVar[str] = "Gadre et al. 2024, arXiv 2403.08540, eq. 4 with D = M N"
    limits: ClassVar = {"E": OFFSET, "a": AMPLITUDE, "b": AMPLITUDE, "c": (0.01, 4.0)}
    map_ranges: ClassVar = {"c": (0.05, 1.2)}
    signs: ClassVar = {"c": "negative"}
    scaled: ClassVar[tuple[str, ...]] = ("E", "a", "b")

    E: float
    a: float
    b: float
    c: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln E) + e^(ln a + c ln N) + e^(ln b + c (ln D + ln 6 / 2)))."""
        ln_E, ln_a, ln_b, ln_minus_c = theta
        c = -exp(ln_minus_c)
        return log_sum_exp(ln_E, ln_a + c * at.ln_N, ln_b + c * (at.ln_D + at.ln_flops / 2.0))

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E, a and b by linear least squares at a given c: those of the tied law at alpha = -c."""
        found = Tied.start({"alpha": guess["c"]}, L, at, amplitudes)
        return {"E": found["E"], "a": found["A"], "b": found["B"]}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """a and b in raw units."""
        a = value["a"] * np.exp(-value["c"] * centre.ln_N)
        b = value["b"] * np.exp(-value["c"] * (centre.ln_D + centre.ln_flops / 2.0))
        return value | {"a": a, "b": b}

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """The tied law's, with alpha = -c and B = b 6^(c/2)."""
        B = value["b"] * FLOPS_PER_PARAMETER_TOKEN ** (value["c"] / 2.0)
        return Tied.balance({"A": value["a"], "B": B, "alpha": -value["c"]}, columns)


@dataclass(frozen=True)
class TwoRecipes(Chinchilla):
    """L = E + A / (m_N^z N)^alpha + B / (m_D^z D)^beta, z = 0 for the first recipe, 1 for the second.

    The second recipe is as good as the first with m_N times the parameters and m_D times the tokens. At best use of a
    budget C it reaches what the first reaches with m_N m_D C: m_N m_D is its compute multiplier.
    """

    name: ClassVar[str] = "two_recipes"
    formula: ClassVar[str] = "L = E + A / (m_N^z N)^alpha + B / (m_D^z D)^beta, z = 0 or 1 by recipe"
    source: ClassVar[str] = "arXiv 2203.15556, eq. 2, with a recipe's efficiency in N and in D; own extension"
    limits: ClassVar = {**Chinchilla.limits, "m_N": (1e-4, 1e4), "m_D": (1e-4, 1e4)}
    columns: ClassVar[tuple[str, ...]] = ("recipe",)

    m_N: float
    m_D: float

    @property
    def compute_multiplier(self) -> float:
        """How many times the compute the first recipe needs to match the second."""
        return self.m_N * self.m_D

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln of Chinchilla's sum at ln N + z ln m_N and ln D + z ln m_D."""
        ln_E, ln_A, ln_alpha, ln_B, ln_beta, ln_m_N, ln_m_D = theta
        second = at.more["recipe"]
        size, data = ln_m_N * second + at.ln_N, ln_m_D * second + at.ln_D
        return log_sum_exp(ln_E, ln_A - exp(ln_alpha) * size, ln_B - exp(ln_beta) * data)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E, A and B by linear least squares at given exponents, both multipliers 1."""
        one = np.ones(len(guess["alpha"]))
        return Chinchilla.start(guess, L, at, amplitudes) | {"m_N": one, "m_D": one}

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """Chinchilla's, A and B those of the recipe in `columns`, of the first without one."""
        z = columns.get("recipe", 0.0)
        A = value["A"] * value["m_N"] ** (-z * value["alpha"])
        B = value["B"] * value["m_D"] ** (-z * value["beta"])
        return Chinchilla.balance(value | {"A": A, "B": B}, columns)


def _repeated(ln_ratio: Any, ln_scale: Any) -> Any:
    """ln(X' / U) = ln(1 + R (1 - e^(-(X / U - 1) / R))) for ln_ratio = ln(X / U), ln_scale = ln R."""
    excess = lesser(-(exp(ln_ratio) - 1.0), -NEVER_REPEATED) * -1.0
    scale = exp(ln_scale)
    return log(scale * (1.0 - exp(-(excess / scale))) + 1.0)
