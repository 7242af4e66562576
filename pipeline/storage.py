"""Files by URI, on this disk or on any file system that fsspec knows: whole or not at all, and patient with a network.

STUDY_STORAGE names the place that every node of a cluster reaches; a local path needs none of the patience.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import fsspec

PATIENCE_SECONDS = 120.0
"""How long a read or a write outlasts faults of the network or of the far side before it gives up."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
"""Where a file appears by one request, whole or not at all, and folders need not exist."""
LASTING = (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
"""Faults that waiting does not mend."""

Done = TypeVar("Done")


class Damaged(ValueError):
    """A file does not hold what was written to it."""


class OriginLost(ValueError):
    """The checkpoint that a run starts from is missing or damaged, so that its parent must be trained again."""


def storage_uri() -> str | None:
    """STUDY_STORAGE without a slash at its end, None where it is not set.

    Raises ValueError when it is not one URI of a known file system, or when it holds a password.
    """
    text = os.environ.get("STUDY_STORAGE", "").rstrip("/")
    if not text:
        return None
    try:
        parts = urlsplit(text)
        secret, place = parts.password, parts.netloc + parts.path
    except ValueError as error:
        raise ValueError(f"environment: STUDY_STORAGE: {text!r} is not a URI ({error})") from None
    if secret is not None:
        raise ValueError(f"environment: STUDY_STORAGE: {parts.scheme}://{parts.hostname}: leave the password out")
    if "://" not in text or "::" in text or not place or parts.query or parts.fragment:
        raise ValueError(f"environment: STUDY_STORAGE: {text!r} is not a URI such as s3://bucket/study")
    try:
        fsspec.get_filesystem_class(parts.scheme)
    except (ValueError, ImportError) as error:
        raise ValueError(f"environment: STUDY_STORAGE: {text!r}: {_line(error)}") from None
    return text


def read(uri: str) -> bytes | None:
    """The bytes of the file `uri`, None where there is none. OSError naming `uri` when it cannot be read."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    try:
        return _patiently(filesystem, uri, lambda: filesystem.cat_file(path))
    except FileNotFoundError:
        return None


def write(uri: str, data: bytes, patience: float = PATIENCE_SECONDS) -> None:
    """Writes `data` to `uri` in one atomic step; on a local disk it is also flushed to the device.

    OSError naming the place when it cannot be written, after `patience` seconds of passing faults: the old file, if
    any, stays as it was.
    """
    filesystem, path = fsspec.core.url_to_fs(uri)
    if _is_local(filesystem):
        _write_local(path, data)
    elif _appears_at_once(filesystem):
        _patiently(filesystem, uri, lambda: filesystem.pipe_file(path, data), patience)
    else:
        _patiently(filesystem, uri, lambda: _write_aside(filesystem, path, data), patience)


def upload(source: Path, uri: str) -> None:
    """Copies the file `source` to `uri`, of whatever size. OSError naming `uri` when it cannot be written."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    if not _appears_at_once(filesystem):
        filesystem.makedirs(os.path.dirname(path), exist_ok=True)
    _patiently(filesystem, uri, lambda: filesystem.put_file(str(source), path))


def download(uri: str, target: Path) -> None:
    """Copies the file `uri` to `target`, of whatever size. OSError naming `uri` when it is not there."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    _patiently(filesystem, uri, lambda: filesystem.get_file(path, str(target)))


def _patiently(filesystem: object, uri: str, work: Callable[[], Done], patience: float = PATIENCE_SECONDS) -> Done:
    """What `work` gives, tried again with growing waits while its faults may pass. Those that last, or outlast
    `patience` seconds, become an OSError that names `uri`: FileNotFoundError where nothing is there."""
    began, wait, tries = time.monotonic(), FIRST_WAIT, 1
    while True:
        try:
            return work()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such file, folder or bucket", uri) from error
        except Exception as error:
            spent = time.monotonic() - began
            if _is_local(filesystem) or not (isinstance(error, OSError) or _of_a_client(error)):
                raise
            if isinstance(error, LASTING) or spent + wait > patience:
                raise OSError(f"{uri}: {_line(error)} ({tries} tries in {spent:.0f} s)") from error
        time.sleep(wait)
        wait, tries = min(2 * wait, LONGEST_WAIT), tries + 1


def _of_a_client(error: Exception) -> bool:
    """True for what a library of the network raises: not all of it is an OSError, as those of botocore are not."""
    return type(error).__module__.split(".")[0] in ("botocore", "aiohttp", "gcsfs", "google", "azure", "requests")


def _write_local(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _aside(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _write_aside(filesystem: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    filesystem.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _aside(path)
    filesystem.pipe_file(temporary, data)
    filesystem.mv(temporary, path)


def _aside(path: str) -> str:
    return f"{path}.{uuid.uuid4().hex[:8]}.tmp"


def _protocols(filesystem: object) -> set[str]:
    protocol = filesystem.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


def _is_local(filesystem: object) -> bool:
    return "file" in _protocols(filesystem)


def _appears_at_once(filesystem: object) -> bool:
    return bool(_protocols(filesystem) & OBJECT_STORES)


def _line(error: BaseException) -> str:
    """The error on one line, with its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
