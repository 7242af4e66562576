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
ROUNDING = 1e-12
"""The relative standard error below which repetitions are the same number."""


@dataclass(frozen=True)
class Estimate:
    """A measured number with its standard error, from `num` independent repetitions; error 0 for an exact computation,
    value None where nothing could be measured, which a NaN says too."""

    value: float | None
    error: float = 0.0
    num: int = 1

    def __post_init__(self) -> None:
        if self.value is not None and math.isnan(self.value):
            object.__setattr__(self, "value", None)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval by Student's t with num - 1 degrees of freedom; None without a value or an error."""
        if self.value is None or self.is_exact or not math.isfinite(self.reach):
            return None
        return self.value - self.reach, self.value + self.reach

    @property
    def is_exact(self) -> bool:
        """Whether repetitions differ by rounding at the most."""
        return self.value is not None and self.error <= ROUNDING * abs(self.value)

    @property
    def reach(self) -> float:
        """Half the width of the 95 % interval."""
        if self.is_exact:
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

        `reached` is False where the runs never entered the regime of the law. A value within the tolerance that is not
        known to the tolerance, half of its 95 % interval being wider, is undetermined; so is one that lies beyond the
        tolerance by less than half of its interval.
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
        places: Sequence[float | None],
        bracket: tuple[float, float] | None,
        predicted: float,
        factor: float,
        statement: str,
        regime: Sequence[Regime] = (),
    ) -> Finding:
        """Whether the boundary of a regime lies where theory puts it, within `factor` either way.

        `places` holds where each independent repetition (a seed) met it, positive, None for one that never did; a
        single place for a computation without repetitions. Measured is their geometric mean, with the 95 % interval of
        Student's t in logarithms; of a single place `bracket`, the two swept values between which the law was seen to
        break, and no error. `not_reached` where none met the boundary; `undetermined` where some did not, where half of
        the interval is wider than the factor, or where interval or bracket leave room for the predicted place.
        """
        known = [place for place in places if place is not None and math.isfinite(place)]
        logs = over_seeds(np.log(known))
        if len(known) < 2:
            logs = Estimate(logs.value)
        place = known[0] if len(known) == 1 else None if logs.value is None else math.exp(logs.value)
        around = bracket if logs.interval is None else tuple(np.exp(logs.interval).tolist())
        verdict: Verdict = "not_reached"
        if place is not None:
            apart = abs(math.log(place / predicted)) - math.log(factor)
            verdict = _decided(apart, logs.reach, math.log(factor))
            if logs.interval is None and bracket is not None and verdict == "violated":
                room = bracket[0] <= predicted * factor and bracket[1] >= predicted / factor
                verdict = "undetermined" if room else "violated"
            if len(known) < len(places):
                verdict = "undetermined"
        measured = Estimate(place, logs.error * (place or 0.0), len(known))
        found = self._as_finding(measured, around, predicted, factor, statement, regime, verdict)
        swept = logs.interval is None
        return replace(
            found,
            tolerance_kind="factor",
            interval_kind="swept" if swept else "confidence",
            error=None if swept else found.error,
        )

    def _finding(self, measured, predicted, tolerance, statement, regime, reached, apart) -> Finding:
        verdict: Verdict
        if not reached:
            verdict = "not_reached"
        elif apart is None:
            verdict = "undetermined"
        else:
            verdict = _decided(apart, measured.reach, -apart if tolerance is None else tolerance)
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


def _decided(apart: float, reach: float, room: float) -> Verdict:
    """The verdict on a value `apart` beyond its tolerance (negative: within), known to `reach`; it holds where that is
    at most `room`."""
    if apart <= 0:
        return "holds" if reach <= room else "undetermined"
    return "violated" if apart >= reach else "undetermined"


def claimed(findings: Sequence[dict]) -> list[Verdict]:
    """The verdicts on what a law claims: its law and boundary findings, not its controls, from plain dicts."""
    return [one["verdict"] for one in findings if one["role"] != "control"]


def overall(findings: Sequence[dict]) -> Verdict:
    """The verdict on a law as a whole, from its findings as plain dicts.

    The worst of its law and boundary findings, in the order violated, undetermined, not_reached, holds. A control, in
    which the law ought to fail, leaves the whole undetermined where it holds or is undetermined itself.
    """
    found = claimed(findings)
    for verdict in ("violated", "undetermined", "not_reached"):
        if verdict in found:
            return verdict
    surprised = any(one["role"] == "control" and one["verdict"] in ("holds", "undetermined") for one in findings)
    return "undetermined" if surprised or not found else "holds"
