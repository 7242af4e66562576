"""How a stage ends: quietly, or with one clear line for the user."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pipeline.collector import rare_collector
from pipeline.execution.failures import disk_full


def run_stage(main: Callable[[], int | None]) -> int:
    """Exit code of `main`: 0 or what it returns, 1 after a fault of the user's or the machine's, told in one line.

    ValueError and OSError are such faults; any other exception is a bug and keeps its traceback.
    """
    try:
        with rare_collector():
            return main() or 0
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1


def explain(error: Exception) -> str:
    """`error` as one line that names the file, and what to do when the disk is full."""
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "a file of the study"
        hint = "; free some room and run `make study` again: finished runs are kept" if disk_full(error) else ""
        return f"{place}: {error.strerror}{hint}"
    return str(error)
