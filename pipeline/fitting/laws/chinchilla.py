"""Laws in which a part of the loss that size removes and a part that data removes add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws.jets import exp, log_sum_exp
from pipeline.fitting.laws.law import AMPLITUDE, EXPONENT, MAP_EXPONENT, OFFSET, Amplitudes, Law
from pipeline.fitting.points import Variables


@dataclass(frozen=True)
class Chinchilla(Law):
    """L = E + A / N^alpha + B / D^beta (arXiv 2203.15556, eq. 2)."""

    name: ClassVar[str] = "chinchilla"
    formula: ClassVar[str] = "L = E + A / N^alpha + B / D^beta"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2"
    limits: ClassVar = {"E": OFFSET, "A": AMPLITUDE, "alpha": EXPONENT, "B": AMPLITUDE, "beta": EXPONENT}
    map_ranges: ClassVar = {"alpha": MAP_EXPONENT, "beta": MAP_EXPONENT}

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln E) + e^(ln A - alpha ln N) + e^(ln B - beta ln D))."""
        ln_E, ln_A, ln_alpha, ln_B, ln_beta = theta
        return log_sum_exp(ln_E, ln_A + exp(ln_alpha) * -at.ln_N, ln_B + exp(ln_beta) * -at.ln_D)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E, A and B by linear least squares at given alpha and beta."""
        powers = [np.ones((1, 1)), np.exp(-guess["alpha"] * at.ln_N), np.exp(-guess["beta"] * at.ln_D)]
        E, A, B = amplitudes(L, powers)
        return {"E": E, "A": A, "B": B}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """A and B in raw units; E and the exponents have none."""
        return value | {
            "A": value["A"] * np.exp(value["alpha"] * centre.ln_N),
            "B": value["B"] * np.exp(value["beta"] * centre.ln_D),
        }

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """The law itself, q = 1."""
        return value | {"q": np.ones_like(value["alpha"])}


@dataclass(frozen=True)
class Tied(Law):
    """L = E + A / N^alpha + B / D^alpha: one exponent, so N* and D* both grow as the square root of C."""

    name: ClassVar[str] = "tied"
    formula: ClassVar[str] = "L = E + A / N^alpha + B / D^alpha"
    source: ClassVar[str] = "arXiv 2203.15556, eq. 2, with alpha = beta"
    limits: ClassVar = {"E": OFFSET, "A": AMPLITUDE, "B": AMPLITUDE, "alpha": EXPONENT}
    map_ranges: ClassVar = {"alpha": MAP_EXPONENT}

    E: float
    A: float
    B: float
    alpha: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln E) + e^(ln A - alpha ln N) + e^(ln B - alpha ln D))."""
        ln_E, ln_A, ln_B, ln_alpha = theta
        alpha = exp(ln_alpha)
        return log_sum_exp(ln_E, ln_A - alpha * at.ln_N, ln_B - alpha * at.ln_D)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E, A and B by linear least squares at a given alpha."""
        return Chinchilla.start(guess | {"beta": guess["alpha"]}, L, at, amplitudes)

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """A and B in raw units."""
        raw = Chinchilla.uncentred(value | {"beta": value["alpha"]}, centre)
        return {name: raw[name] for name in cls.parameters()}

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """Chinchilla's, with beta = alpha."""
        return Chinchilla.balance(value | {"beta": value["alpha"]}, columns)


@dataclass(frozen=True)
class NoOffset(Law):
    """L = A / N^alpha + B / D^beta: no irreducible loss."""

    name: ClassVar[str] = "no_E"
    formula: ClassVar[str] = "L = A / N^alpha + B / D^beta"
    source: ClassVar[str] = "arXiv 2203.15556, eq. 2, with E = 0"
    limits: ClassVar = {"A": AMPLITUDE, "alpha": EXPONENT, "B": AMPLITUDE, "beta": EXPONENT}
    map_ranges: ClassVar = {"alpha": (0.01, 0.8), "beta": (0.01, 0.8)}

    A: float
    alpha: float
    B: float
    beta: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln A - alpha ln N) + e^(ln B - beta ln D))."""
        ln_A, ln_alpha, ln_B, ln_beta = theta
        return log_sum_exp(ln_A - exp(ln_alpha) * at.ln_N, ln_B - exp(ln_beta) * at.ln_D)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """A and B by linear least squares at given alpha and beta."""
        A, B = amplitudes(L, [np.exp(-guess["alpha"] * at.ln_N), np.exp(-guess["beta"] * at.ln_D)])
        return {"A": A, "B": B}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """A and B in raw units."""
        return Chinchilla.uncentred(value, centre)

    @classmethod
    def balance(cls, value: dict[str, NDArray], columns: dict[str, float]) -> dict[str, NDArray] | None:
        """Chinchilla's: E has no part in it."""
        return Chinchilla.balance(value, columns)
