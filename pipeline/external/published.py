"""Numbers that others published for the same runs, and how ours stand beside them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.fitting.laws import Law

EXPONENTS = ("a", "b")
"""N* ~ C^a and D* ~ C^b, unless the law has parameters of these names."""
MULTIPLIER = "compute_multiplier"


@dataclass(frozen=True)
class Published:
    """Published `numbers` by name, their 95 % `intervals` where known, and their `source` in words."""

    source: str
    numbers: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Any, numbers: Any, place: str) -> Published:
        """From plain values: a number is a value, or an object of `value` and `interval`.

        Raises ValueError beginning with `place` for anything else and for numbers without a source.
        """
        if not isinstance(source, str) or not source.strip():
            raise ValueError(f"{place}: source: {source!r}: published numbers need words on where they stand")
        if not isinstance(numbers, dict) or not numbers:
            raise ValueError(f"{place}: numbers: {numbers!r} is not an object of names and numbers")
        values, intervals = {}, {}
        for name, given in numbers.items():
            whole = given if isinstance(given, dict) else {"value": given}
            if unknown := whole.keys() - {"value", "interval"}:
                raise ValueError(f"{place}: numbers: {name}: {min(unknown)!r} is neither value nor interval")
            values[name] = _finite(whole.get("value"), f"{place}: numbers: {name}")
            ends = whole.get("interval")
            if ends is None:
                continue
            if not isinstance(ends, (list, tuple)) or len(ends) != 2:
                raise ValueError(f"{place}: numbers: {name}: interval: {ends!r} is not two numbers")
            low, high = (_finite(end, f"{place}: numbers: {name}: interval") for end in ends)
            if low > high:
                raise ValueError(f"{place}: numbers: {name}: interval: {low} is above {high}")
            intervals[name] = (low, high)
        return cls(source.strip(), values, intervals)

    def check(self, form: type[Law] | None) -> None:
        """Raises ValueError for a number that a fit of `form` (None: isoFLOP minima) does not give."""
        known = quantity_names(form)
        for name in self.numbers:
            if name not in known:
                raise ValueError(f"--published: {name!r} is none of {', '.join(known)}")


def read_published(text: str) -> Published:
    """Published numbers from a file NAME.json, or from the words NAME=VALUE,...,source=WORDS.

    The file holds {"source": words, "numbers": {name: value or {"value", "interval"}}}. Raises ValueError in one line.
    """
    if text.endswith(".json"):
        try:
            tree = json.loads(Path(text).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{text}: no such file") from None
        except ValueError as error:
            raise ValueError(f"{text}: not JSON: {error}") from None
        if not isinstance(tree, dict) or (unknown := tree.keys() - {"source", "numbers"}):
            what = (
                f"unknown key {min(unknown)!r}" if isinstance(tree, dict) else f"{type(tree).__name__}, not an object"
            )
            raise ValueError(f"{text}: {what}; source and numbers are wanted")
        return Published.of(tree.get("source"), tree.get("numbers"), text)
    words, _, source = text.partition("source=")
    numbers = {}
    for part in filter(None, (part.strip() for part in words.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"--published: {part!r} is not NAME=VALUE, and {text!r} no file NAME.json")
        if name.strip() in numbers:
            raise ValueError(f"--published: {name.strip()!r} stands there twice")
        numbers[name.strip()] = value
    return Published.of(source, numbers, "--published")


def quantity_names(form: type[Law] | None) -> tuple[str, ...]:
    """The names of what a fit of `form` (None: isoFLOP minima) gives and a publication may give too."""
    own = () if form is None else form.parameters()
    more = (MULTIPLIER,) if form is not None and "recipe" in form.columns else ()
    return (*own, *(name for name in EXPONENTS if name not in own), *more)


def beside(published: Published, ours: dict[str, tuple[float | None, float | None, Any]]) -> dict[str, Any]:
    """The published numbers beside `ours`: name -> (value, standard error, 95 % interval), as plain values.

    The difference is ours less theirs, in standard errors of ours: both rest on the same runs, so theirs add nothing
    that is independent. Where a few resamples make the standard error larger than the whole interval, a Gaussian of
    that interval gives it. None where ours is refused or has no error.
    """
    rows = []
    for name, theirs in published.numbers.items():
        value, error, interval = ours.get(name, (None, None, None))
        if error and interval and error > interval[1] - interval[0]:
            error = (interval[1] - interval[0]) / (2 * 1.959964)
        rows.append(
            {
                "name": name,
                "value": value,
                "interval": interval,
                "published": theirs,
                "published_interval": published.intervals.get(name),
                "difference": None if value is None else value - theirs,
                "standard_errors": (value - theirs) / error if value is not None and error else None,
            }
        )
    return {"source": published.source, "rows": rows}


def _finite(value: Any, place: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{place}: {value!r} is not a number")
    return number
