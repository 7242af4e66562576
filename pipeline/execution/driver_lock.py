"""One driver at a time on a run store, by a lock that the kernel takes back when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_driver(root: Path) -> Iterator[None]:
    """Holds the run store in `root` for the length of the block; nothing is left to clean up after a crash.

    Raises BlockingIOError, in one line with host and process number, when another driver holds it.
    """
    path = root / "scratch" / "driver.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "starting up"
            message = f"another driver trains here ({holder}); wait until it ends, or end it: finished runs are kept"
            raise BlockingIOError(errno.EWOULDBLOCK, message, str(path)) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
