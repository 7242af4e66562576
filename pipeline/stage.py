"""How a stage or a command ends: quietly, or with one clear line for the user."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable

from pipeline.collector import rare_collector
from pipeline.execution.failures import disk_full

NOBODY_READS = 141
"""What a shell says of a program that SIGPIPE ended, 128 + 13."""
STOPPED = 130
"""What it says of one that Ctrl-C ended, 128 + 2."""
GOES_ON = "stopped; finished runs are kept, `make study` goes on"


def run_stage(main: Callable[[], int | None], stopped: str = GOES_ON) -> int:
    """Exit code of `main`: 0 or what it returns, 1 after a fault of the user's or the machine's, told in one line.

    ValueError and OSError are such faults; any other exception is a bug and keeps its traceback. A reader that stops
    early, such as head, is no fault: the stage ends there, without a word. (The signal itself stays ignored, since it
    would also end a program whose connection to a server breaks.) Ctrl-C ends it with the line `stopped`.
    """
    try:
        with rare_collector():
            code = main() or 0
        if sys.stdout:  # None where it is closed
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return STOPPED
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_gone():
            return NOBODY_READS
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1


def _reader_gone() -> bool:
    """Whether nobody reads standard output or standard error any more; what is left in them goes nowhere then."""
    poll = select.poll()
    for file in (1, 2):
        poll.register(file, 0)
    closed = [file for file, event in poll.poll(0) if event & select.POLLERR]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in closed:
        os.dup2(nowhere, file)
    os.close(nowhere)
    return bool(closed)


def explain(error: Exception) -> str:
    """`error` as one line that names the file, and what to do when the disk is full."""
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "a file of the study"
        hint = "; free some room and run `make study` again: finished runs are kept" if disk_full(error) else ""
        return f"{place}: {error.strerror}{hint}"
    return str(error)
