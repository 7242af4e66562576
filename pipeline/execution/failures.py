"""What each kind of failure means: try again, try smaller, give up on the run, or stop the stage."""

from __future__ import annotations

import errno
from typing import Literal

Kind = Literal["lost", "memory", "disk", "bug"]


class WorkerLost(Exception):
    """The process or node that trained a run is gone: killed, preempted, or out of the host's memory."""


class RunFailed(Exception):
    """A run raised an exception. `cause` is that exception, `traceback` its text from the worker."""

    def __init__(self, cause: BaseException, traceback: str, memory: bool):
        super().__init__(str(cause))
        self.cause, self.traceback, self.memory = cause, traceback, memory


def kind_of(error: WorkerLost | RunFailed) -> Kind:
    """What `error` means for the run.

    lost: free retry from the last checkpoint. memory: retry with half the micro-batch. disk: the disk is full, so no
    other run can be saved either and the stage stops. bug: the run fails with its traceback, the others go on.
    """
    if isinstance(error, WorkerLost):
        return "lost"
    if error.memory:
        return "memory"
    return "disk" if disk_full(error.cause) else "bug"


def disk_full(error: BaseException) -> bool:
    """True when `error` says that a file system has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
