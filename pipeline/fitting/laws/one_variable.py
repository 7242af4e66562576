"""Laws of one variable: of size, of data or of compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws.jets import exp, log_sum_exp
from pipeline.fitting.laws.law import AMPLITUDE, EXPONENT, MAP_EXPONENT, OFFSET, Amplitudes, Law
from pipeline.fitting.points import Variables


@dataclass(frozen=True)
class Saturating(Law):
    """L = E + A / X^gamma of one variable X (arXiv 2010.14701, eq. 1.1)."""

    source: ClassVar[str] = "Henighan et al. 2020, arXiv 2010.14701, eq. 1.1"
    limits: ClassVar = {"E": OFFSET, "A": AMPLITUDE, "gamma": EXPONENT}
    map_ranges: ClassVar = {"gamma": MAP_EXPONENT}
    variable: ClassVar[Literal["N", "D", "C"]]

    E: float
    A: float
    gamma: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln E) + e^(ln A - gamma ln X))."""
        ln_E, ln_A, ln_gamma = theta
        return log_sum_exp(ln_E, ln_A - exp(ln_gamma) * _ln_X(cls.variable, at))

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E and A by linear least squares at a given gamma."""
        E, A = amplitudes(L, [np.ones((1, 1)), np.exp(-guess["gamma"] * _ln_X(cls.variable, at))])
        return {"E": E, "A": A}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """A in raw units."""
        return value | {"A": value["A"] * np.exp(value["gamma"] * _ln_X(cls.variable, centre))}


@dataclass(frozen=True)
class Broken(Law):
    """L = E + A X^-c0 (1 + (X / d1)^(1 / f1))^(-c1 f1): a power law whose exponent goes from c0 to c0 + c1 at d1."""

    source: ClassVar[str] = "Caballero et al. 2022, arXiv 2210.14891, eq. 1, one break"
    limits: ClassVar = {
        "E": OFFSET,
        "A": AMPLITUDE,
        "c0": (1e-3, 4.0),
        "c1": (-4.0, 4.0),
        "d1": (1e-12, 1e12),
        "f1": (0.02, 20.0),
    }
    signs: ClassVar = {"c1": "any"}
    map_ranges: ClassVar = {"c0": (0.02, 1.2), "c1": (-0.6, 1.2), "d1": (1e-2, 1e2), "f1": (0.05, 2.0)}
    variable: ClassVar[Literal["N", "D", "C"]]

    E: float
    A: float
    c0: float
    c1: float
    d1: float
    f1: float

    @classmethod
    def log_loss(cls, theta: Sequence[Any], at: Variables) -> Any:
        """ln L = ln(e^(ln E) + e^(ln A - c0 ln X - c1 f1 ln(1 + e^((ln X - ln d1) / f1))))."""
        ln_E, ln_A, ln_c0, c1, ln_d1, ln_f1 = theta
        ln_X = _ln_X(cls.variable, at)
        past_break = log_sum_exp(np.zeros((1, 1)), (ln_X - ln_d1) * exp(-ln_f1))
        return log_sum_exp(ln_E, ln_A - exp(ln_c0) * ln_X - c1 * exp(ln_f1) * past_break)

    @classmethod
    def start(cls, guess: dict[str, NDArray], L: NDArray, at: Variables, amplitudes: Amplitudes) -> dict[str, NDArray]:
        """E and A by linear least squares at a given shape."""
        ln_X = _ln_X(cls.variable, at)
        past_break = np.logaddexp(0.0, (ln_X - np.log(guess["d1"])) / guess["f1"])
        power = np.exp(-guess["c0"] * ln_X - guess["c1"] * guess["f1"] * past_break)
        E, A = amplitudes(L, [np.ones((1, 1)), power])
        return {"E": E, "A": A}

    @classmethod
    def uncentred(cls, value: dict[str, NDArray], centre: Variables) -> dict[str, NDArray]:
        """A and d1 in raw units."""
        ln_X = _ln_X(cls.variable, centre)
        return value | {"A": value["A"] * np.exp(value["c0"] * ln_X), "d1": value["d1"] * np.exp(ln_X)}


@dataclass(frozen=True)
class SaturatingN(Saturating):
    """L = E + A / N^gamma."""

    name: ClassVar[str] = "saturating_N"
    formula: ClassVar[str] = "L = E + A / N^gamma"
    variable: ClassVar = "N"
    levels: ClassVar = {"N": 3}


@dataclass(frozen=True)
class SaturatingD(Saturating):
    """L = E + A / D^gamma."""

    name: ClassVar[str] = "saturating_D"
    formula: ClassVar[str] = "L = E + A / D^gamma"
    variable: ClassVar = "D"
    levels: ClassVar = {"D": 3}


@dataclass(frozen=True)
class SaturatingC(Saturating):
    """L = E + A / C^gamma, C = 6 N D."""

    name: ClassVar[str] = "saturating_C"
    formula: ClassVar[str] = "L = E + A / C^gamma"
    variable: ClassVar = "C"
    levels: ClassVar = {"C": 3}


@dataclass(frozen=True)
class BrokenN(Broken):
    """L = E + A N^-c0 (1 + (N / d1)^(1 / f1))^(-c1 f1)."""

    name: ClassVar[str] = "broken_N"
    formula: ClassVar[str] = "L = E + A N^-c0 (1 + (N / d1)^(1 / f1))^(-c1 f1)"
    variable: ClassVar = "N"
    levels: ClassVar = {"N": 6}


@dataclass(frozen=True)
class BrokenD(Broken):
    """L = E + A D^-c0 (1 + (D / d1)^(1 / f1))^(-c1 f1)."""

    name: ClassVar[str] = "broken_D"
    formula: ClassVar[str] = "L = E + A D^-c0 (1 + (D / d1)^(1 / f1))^(-c1 f1)"
    variable: ClassVar = "D"
    levels: ClassVar = {"D": 6}


@dataclass(frozen=True)
class BrokenC(Broken):
    """L = E + A C^-c0 (1 + (C / d1)^(1 / f1))^(-c1 f1), C = 6 N D."""

    name: ClassVar[str] = "broken_C"
    formula: ClassVar[str] = "L = E + A C^-c0 (1 + (C / d1)^(1 / f1))^(-c1 f1)"
    variable: ClassVar = "C"
    levels: ClassVar = {"C": 6}


def _ln_X(variable: str, at: Variables) -> NDArray:
    """ln N, ln D, or ln C with C = 6 N D; in centred variables ln of the variable over its centre."""
    return {"N": at.ln_N, "D": at.ln_D, "C": at.ln_C}[variable]
