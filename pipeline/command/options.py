"""Numbers that options were given, or one line that names the option and what stands there."""

from __future__ import annotations

import math


def whole(option: str, text: str | int, least: int) -> int:
    """The whole number that `option` was given. Raises ValueError for anything else, or one below `least`."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a whole number") from None
    if value < least:
        raise ValueError(f"{option}: {value} is below {least}")
    return value


def number(option: str, text: str) -> float:
    """The number that `option` was given. Raises ValueError for anything else."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a number") from None


def positive(option: str, text: str) -> float:
    """The number that `option` was given. Raises ValueError unless it is finite and positive."""
    value = number(option, text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{option}: {text} is not a finite positive number")
    return value
