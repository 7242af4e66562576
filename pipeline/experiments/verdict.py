"""From an estimate with its standard error to a verdict: one rule for every law of learning mechanics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from pipeline.experiments.experiment import Finding, Regime, Verdict

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measured number with its standard error, from `num` independent repetitions; error 0 for an exact computation,
    value None where nothing could be measured."""

    value: float | None
    error: float = 0.0
    num: int = 1

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval by Student's t with num - 1 degrees of freedom; None without a value or an error."""
        if self.value is None or not math.isfinite(self.error) or (self.num < 2 and self.error):
            return None
        half = self.reach
        return self.value - half, self.value + half

    @property
    def reach(self) -> float:
        """Half the width of the 95 % interval."""
        if not self.error:
            return 0.0
        return float(stdtrit(self.num - 1, (1 + LEVEL) / 2)) * self.error if self.num > 1 else math.inf


def over_seeds(values: Iterable[float | None]) -> Estimate:
    """The mean over repetitions with different seeds and its standard error; None and NaN are no repetitions."""
    known = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    if not len(known):
        return Estimate(None)
    error = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.inf
    return Estimate(float(known.mean()), error, len(known))


@dataclass(frozen=True)
class Claim:
    """A sentence that can be wrong: what all its findings share. Fields as those of Finding."""

    law: str
    formula: str
    source: str
    unit: str = ""
    kind: Literal["identity", "regularity"] = "regularity"
    role: Literal["law", "boundary", "control"] = "law"
    figure: str | None = None

    def equals(
        self,
        measured: Estimate,
        predicted: float,
        tolerance: float,
        statement: str,
        regime: Sequence[Regime] = (),
        reached: bool = True,
    ) -> Finding:
        """Whether `measured` is `predicted` within `tolerance` (absolute, in the claim's unit).

        `reached` is False where the runs never entered the regime of the law. A difference beyond the tolerance by less
        than the reach of the interval is undetermined, as is any whose standard error exceeds the tolerance.
        """
        apart = None if measured.value is None else abs(measured.value - predicted) - tolerance
        return self._finding(measured, predicted, tolerance, statement, regime, reached, apart)

    def at_most(
        self, measured: Estimate, bound: float, statement: str, regime: Sequence[Regime] = (), reached: bool = True
    ) -> Finding:
        """Whether `measured` is at most `bound`; undetermined where the bound lies within its 95 % interval."""
        apart = None if measured.value is None else measured.value - bound
        return self._finding(measured, bound, None, statement, regime, reached, apart)

    def at_least(
        self, measured: Estimate, bound: float, statement: str, regime: Sequence[Regime] = (), reached: bool = True
    ) -> Finding:
        """Whether `measured` is at least `bound`; undetermined where the bound lies within its 95 % interval."""
        apart = None if measured.value is None else bound - measured.value
        return self._finding(measured, bound, None, statement, regime, reached, apart)

    def located(
        self,
        measured: float | None,
        bracket: tuple[float, float] | None,
        predicted: float,
        factor: float,
        statement: str,
        regime: Sequence[Regime] = (),
    ) -> Finding:
        """Whether the boundary of a regime lies where theory puts it, within `factor` either way.

        `bracket` holds the two swept values between which the law was seen to break; None, with `measured` None, where
        the sweep never crossed it, which is `not_reached`.
        """
        if measured is None:
            verdict: Verdict = "not_reached"
        else:
            low, high = predicted / factor, predicted * factor
            inside = low <= measured <= high
            overlaps = bracket is not None and bracket[0] <= high and bracket[1] >= low
            verdict = "holds" if inside else "undetermined" if overlaps else "violated"
        found = self._as_finding(Estimate(measured), bracket, predicted, factor, statement, regime, verdict)
        return replace(found, tolerance_kind="factor")

    def _finding(self, measured, predicted, tolerance, statement, regime, reached, apart) -> Finding:
        verdict: Verdict
        if not reached:
            verdict = "not_reached"
        elif apart is None:
            verdict = "undetermined"
        elif tolerance is None:
            verdict = "undetermined" if abs(apart) < measured.reach else "holds" if apart <= 0 else "violated"
        elif measured.error > tolerance or 0 < apart < measured.reach:
            verdict = "undetermined"
        else:
            verdict = "holds" if apart <= 0 else "violated"
        return self._as_finding(measured, measured.interval, predicted, tolerance, statement, regime, verdict)

    def _as_finding(self, measured, interval, predicted, tolerance, statement, regime, verdict) -> Finding:
        return Finding(
            law=self.law,
            statement=statement,
            formula=self.formula,
            source=self.source,
            unit=self.unit,
            predicted=float(predicted),
            measured=None if measured.value is None else float(measured.value),
            interval=None if interval is None else (float(interval[0]), float(interval[1])),
            tolerance=None if tolerance is None else float(tolerance),
            verdict=verdict,
            regime=list(regime),
            error=float(measured.error) if measured.value is not None and math.isfinite(measured.error) else None,
            role=self.role,
            kind=self.kind,
            figure=self.figure,
        )


def claimed(findings: Sequence[dict]) -> list[Verdict]:
    """The verdicts on what a law claims: its law and boundary findings, not its controls, from plain dicts."""
    return [one["verdict"] for one in findings if one["role"] != "control"]


def overall(findings: Sequence[dict]) -> Verdict:
    """The verdict on a law as a whole, from its findings as plain dicts.

    The worst of its law and boundary findings, in the order violated, undetermined, not_reached, holds. A control that
    holds, where the law ought to fail, leaves the whole undetermined.
    """
    found = claimed(findings)
    for verdict in ("violated", "undetermined", "not_reached"):
        if verdict in found:
            return verdict
    surprised = any(one["role"] == "control" and one["verdict"] == "holds" for one in findings)
    return "undetermined" if surprised or not found else "holds"
