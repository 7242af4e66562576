"""What each model of this law hands back, and the two claims that most of them make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from pipeline.experiments.experiment import Finding, Regime
from pipeline.experiments.law import law_run
from pipeline.experiments.sweep import crossing, local_slopes, worst
from pipeline.experiments.verdict import Claim, Estimate
from pipeline.planning.run_spec import RunSpec

LAW = "solvable_scaling"


@dataclass(frozen=True)
class Exponent:
    """One exponent: of what, in which setting; `first` and `last` are its local values in the two halves of the range
    where those were measured, `error` its standard error over `num` repetitions (0: computed exactly); `measured` is
    None or NaN where there is none."""

    model: str
    of: str
    setting: str
    predicted: float
    measured: float | None
    first: float | None = None
    error: float = 0.0
    num: int = 1

    @property
    def estimate(self) -> Estimate:
        """The measured exponent with its standard error."""
        return Estimate(self.measured, self.error, self.num)

    @property
    def off(self) -> float:
        """How far the measured exponent is from the predicted one, relative; infinite where none was measured."""
        measured = self.estimate.value
        return math.inf if measured is None else abs(measured / self.predicted - 1)


@dataclass(frozen=True)
class Outcome:
    """One model's findings, the tables of its figures, its exponents, and what else is to be said of it."""

    findings: list[Finding]
    exponents: list[Exponent] = field(default_factory=list)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    says: list[str] = field(default_factory=list)


def recovered(
    claim: Claim, exponents: Sequence[Exponent], tolerance: float, words: str, regime: Sequence[Regime] = ()
) -> Finding:
    """The finding that every one of `exponents` is the predicted one within `tolerance` (relative): the worst decides.

    `words` open the statement, which then names the worst and lists them all.
    """
    listed = ", ".join(f"{told(one, 4)} ({one.predicted:.4g})" for one in exponents)

    def judged(one: Exponent) -> Finding:
        says = (
            f"{words}: the worst of {len(exponents)} exponents, that of {one.of} at {one.setting}, is "
            f"{told(one, 5)} where theory says {one.predicted:.5g}. Measured (predicted): {listed}."
        )
        return claim.equals(one.estimate, one.predicted, tolerance * abs(one.predicted), says, regime)

    return worst(map(judged, exponents))


def told(one: Exponent, digits: int) -> str:
    """The measured exponent in words."""
    return "unknown" if one.estimate.value is None else f"{one.measured:.{digits}g}"


def saturation(
    claim: Claim, table: pl.DataFrame, tolerance: float, predicted: float, factor: float, of: str, x: str = "b"
) -> Finding:
    """The finding of where the unsaturated exponent breaks: `short`, its relative shortfall, exceeds `tolerance`.

    `table` has the columns `x`, exponent, short; `predicted` is where theory lets another term take over.
    """
    place, bracket = crossing(table[x], table["short"], tolerance)
    last = table.row(-1, named=True)
    says = (
        f"The exponent of {of} stays unsaturated over the sweep; predicted to saturate from {x} = {predicted:.3g} on."
    )
    if place is not None:
        says = (
            f"The exponent of {of} falls more than {100 * tolerance:.2g} % short of its unsaturated value from {x} = "
            f"{place:.3g} on, predicted {predicted:.3g}; at {x} = {last[x]:g} it is {last['exponent']:.3g} instead of "
            f"{last['exponent'] / (1 - last['short']):.3g}."
        )
    low, high = bracket or (float(table[x].max()), None)
    regime = [Regime(x, "", float(table[x].min()), low, high, predicted)]
    return claim.located([place], bracket, predicted, factor, says, regime)


def rows_of(runs: pl.DataFrame, model: str, part: str) -> pl.DataFrame:
    """The runs of one part of one model, without the columns that are empty there."""
    rows = runs.filter((pl.col("model") == model) & (pl.col("part") == part))
    return rows.select(column for column in rows if column.null_count() < rows.height)


def falling(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> dict[str, float]:
    """`<of>_first` and `<of>_last` of curves y(x) ~ x^-exponent: local exponents in the two halves of their range."""
    slopes = {of: local_slopes(x, y) for of, (x, y) in curves.items()}
    return {f"{of}_{half}": -pair[index] for of, pair in slopes.items() for index, half in enumerate(("first", "last"))}


def planned(model: str, part: str, settings: dict, seed: int = 0, *, seconds: float) -> RunSpec:
    """One run of `part` of the model: both are among its settings, by which `run` finds the code."""
    words = " ".join(f"{name} {value}" for name, value in settings.items())
    label = f"{model} {part} {words} seed {seed}"
    chosen = {"model": model, "part": part} | settings
    return law_run(LAW, f"{model}_{part}", chosen, seed, label=label, seconds=seconds)
