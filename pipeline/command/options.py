"""Numbers that options were given, or one line that names the option and what stands there."""

from __future__ import annotations

import math
from collections.abc import Sequence


def joined(words: Sequence[str]) -> list[str]:
    """The words of a command line, a negative number as one with the option before it (--params=-1e9): argparse knows
    -3 for a number, but takes -1e9 and -inf for options."""
    found: list[str] = []
    for word in words:
        option = bool(found) and found[-1].startswith("--") and found[-1] != "--" and "=" not in found[-1]
        if option and word.startswith("-") and _is_number(word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole(option: str, text: str | int, least: int, most: int | None = None) -> int:
    """The whole number that `option` was given. Raises ValueError for anything else, or one that is not in `least` to
    `most`."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a whole number") from None
    if value < least:
        raise ValueError(f"{option}: {value} is below {least}")
    if most is not None and value > most:
        raise ValueError(f"{option}: {value} is above {most}")
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
