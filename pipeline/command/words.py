"""Numbers and columns as the commands print them, and files written whole."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from itertools import zip_longest
from typing import Any

STATES = {None: "not trained yet", "partial": "in progress"}
"""What the store says of a run that has no record, for people."""


def write_json(path: str, value: Any) -> None:
    """Writes `value` to `path` as JSON with sorted keys, all of it or nothing."""
    write_text(path, json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n")


def write_text(path: str, content: str) -> None:
    """Writes `content` to `path`: all of it or nothing into a regular file, straight into a pipe or a device.

    A link stays, and what it points to is written. Raises OSError naming `path` where that cannot be done.
    """
    target = os.path.realpath(path)
    written = path if _keeps_nothing(path) else f"{target}.{os.getpid()}.part"
    try:
        with open(written, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(content)
        if written != path:
            os.replace(written, target)
    except OSError as error:
        if written != path:
            with suppress(OSError):  # where it could not be made there is none
                os.unlink(written)
        raise OSError(error.errno, error.strerror, path) from error


def check_outputs(read: dict[str, str | None], written: dict[str, str | None]) -> None:
    """Raises ValueError for a file to be written that is a folder, or that the same command reads or writes already.

    Both map an option to its path, None where it is not given. Pipes and devices keep nothing that could be lost.
    """
    held = {os.path.realpath(path.removeprefix("file://")): option for option, path in read.items() if path}
    for option, path in written.items():
        if path is None:
            continue
        if os.path.isdir(path or "."):
            raise ValueError(f"{option}: {path!r} is a folder")
        if _keeps_nothing(path):
            continue
        other = held.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ValueError(f"{option}: {path} is the file of {other}, which would be lost")


def _keeps_nothing(path: str) -> bool:
    """Whether `path` is there but no regular file, such as a pipe or a device."""
    return os.path.exists(path) and not os.path.isfile(path)


def predict_text(result: dict[str, Any]) -> str:
    """The printed prediction."""
    rows = [("law", f"{result['law']}, from {result['source']}")]
    beyond = f"{figure(result['extrapolation'], 3)} times the largest measured"
    rows.append(("compute", f"{figure(result['flops'], 4)} FLOPs, {beyond}"))
    for name in ("params", "tokens", "tokens_per_parameter"):
        if result[name] is not None:
            ends = result.get(f"{name}_interval")
            rows.append((name.replace("_", " "), figure(result[name]) + (f" {between(ends)}" if ends else "")))
    rows.append(("loss", f"{figure(result['loss'], 5)} {between(result['interval'])} (95 % interval of the law)"))
    rows.append(("", f"{between(result['prediction_interval'])} (95 % prediction interval of a run)"))
    if result["flat_params"]:
        rows.append(("flat range", f"{between(result['flat_params'])} parameters lose at most 0.1 %"))
    if result["serving"]:
        one = result["serving"]
        costs = f"{figure(one['flops_train'], 3)} FLOPs to train and {figure(one['flops_serve'], 3)} to serve"
        rows.append(
            (
                "serving",
                f"for {figure(one['served_tokens'], 3)} tokens served the cheapest model of this loss has "
                f"{figure(one['params'])} parameters and {figure(one['tokens'])} training tokens: {costs}",
            )
        )
    return "\n".join([listed(rows), *(f"{one['name']}: {one['text']}" for one in result["warnings"])])


def figure(value: float | None, digits: int = 4) -> str:
    """`value` to significant digits, as a power of ten from a million on; a dash for none."""
    if value is None:
        return "-"
    rounded = f"{value:.{digits}g}"
    return f"{float(rounded):.10g}" if abs(value) < 1e6 else rounded


def between(ends: list[float] | None, digits: int = 3) -> str:
    """An interval, to so many digits or as many more as two digits of its width need; a dash for none."""
    if ends is None or None in ends:
        return "-"
    width, size = ends[1] - ends[0], max(map(abs, ends))
    needed = math.ceil(math.log10(size / width)) + 2 if width > 0 else digits
    return f"[{figure(ends[0], max(digits, needed))}, {figure(ends[1], max(digits, needed))}]"


def aligned(rows: list[list[str]], indent: str = "") -> str:
    """Rows of cells as columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)),
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def listed(rows: list[tuple[str, str]]) -> str:
    """Names and what stands beside them, in two columns to the left."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows)
