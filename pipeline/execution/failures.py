"""What each kind of failure means: try again, try smaller, give up on the run, or stop the stage."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from typing import Literal

from pipeline.storage import OriginLost

Kind = Literal["lost", "memory", "disk", "origin", "bug"]


@dataclass(frozen=True)
class Failure:
    """How a run ended without a result.

    lost: its process or node is gone; free retry from the last checkpoint. memory: retry with half the micro-batch.
    disk: the disk of `place` is full, so no other run could be saved either and the stage stops. origin: the
    checkpoint it starts from is missing or damaged, so its parent is trained again first. bug: an exception; the run
    fails with its `traceback`, the others go on. `summary` is one line.
    """

    kind: Kind
    summary: str
    traceback: str = ""
    place: str = ""


def failure_of(error: Exception) -> Failure:
    """What `error`, raised by a run, means for it. Called where it was raised, while its traceback is at hand."""
    kind: Kind = "memory" if out_of_memory(error) else "disk" if disk_full(error) else "bug"
    kind = "origin" if isinstance(error, OriginLost) else kind
    text = "".join(traceback.format_exception(error))
    return Failure(kind, text.strip().splitlines()[-1], text, str(getattr(error, "filename", None) or ""))


def out_of_memory(error: BaseException) -> bool:
    """True when `error` means that the device or the host had no memory left (torch.OutOfMemoryError included)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def disk_full(error: BaseException) -> bool:
    """True when `error` says that a file system has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
