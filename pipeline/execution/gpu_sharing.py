"""NVIDIA's Multi-Process Service for runs that share a GPU: without it kernels of only one process run at a time."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
PATIENCE = 20.0
"""Seconds that the service has to start or to end."""


@contextmanager
def shared_gpus() -> Iterator[None]:
    """The service runs for the length of the block, and processes begun in it find it; where NVIDIA's program for it is
    not installed, or will not start, runs take turns.

    It needs no rights and changes no setting of the GPU. A user's own, which PIPES in the environment names, is left
    alone; one that was there before, of a study beside this one or of one that was killed, is used and left running.
    """
    folder = Path(tempfile.gettempdir()) / f"study-mps-{os.getuid()}"
    if PIPES in os.environ or not shutil.which(CONTROL) or not _is_ours(folder):
        yield
        return
    own = {PIPES: str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    os.environ |= own
    started = _say([CONTROL, "-d"])
    try:
        yield
    finally:
        if started:
            _say([CONTROL], "quit\n")
        for name in own:
            del os.environ[name]


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can write to `folder`, which is made if there is none."""
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077


def _say(command: list[str], text: str = "") -> bool:
    try:
        said = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0
