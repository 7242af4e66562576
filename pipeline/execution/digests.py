"""A folder that proves itself: digests.json holds the sha256 of every other file in it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from pipeline.storage import Damaged

DIGESTS = "digests.json"
NOT_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What damage makes of a file; any other OSError is the machine's fault and says nothing about the record."""


def seal(folder: Path) -> None:
    """Writes digests.json over the files that `folder` holds."""
    (folder / DIGESTS).write_text(_text({path.name: _sha256(path) for path in folder.iterdir()}))


class Sealed:
    """A sealed folder, whose digests.json is read once. Raises Damaged where that is not as it was written."""

    def __init__(self, folder: str):
        self.folder, self.digests = folder, _digests(folder)

    def read(self, name: str) -> bytes:
        """The bytes of the file `name`. Raises Damaged when they are not those that were sealed."""
        path = f"{self.folder}/{name}"
        if name not in self.digests:
            raise Damaged(f"{path}: missing in {DIGESTS}")
        data = _bytes(path)
        if hashlib.sha256(data).hexdigest() != self.digests[name]:
            raise _differs(path)
        return data

    def check(self) -> None:
        """Raises Damaged naming the first file that is not as it was sealed, is missing, or came later."""
        held = set(os.listdir(self.folder)) - {DIGESTS}
        for name in sorted(self.digests.keys() | held):
            path = f"{self.folder}/{name}"
            if name not in held:
                raise Damaged(f"{path}: missing")
            if name not in self.digests:
                raise Damaged(f"{path}: not in {DIGESTS}, so not part of the record")
            if _sha256(path) != self.digests[name]:
                raise _differs(path)


def _digests(folder: str) -> dict[str, str]:
    data = _bytes(f"{folder}/{DIGESTS}")
    try:
        digests = json.loads(data.decode())
        if data != _text(digests).encode():
            raise ValueError("not as it was written")
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder}/{DIGESTS}: {error}") from None
    return digests


def _text(digests: dict[str, str]) -> str:
    """JSON, for names that need no escapes: several times as fast as by `json`, and it is compared at every reading."""
    return "{\n " + ",\n ".join([f'"{name}": "{digests[name]}"' for name in sorted(digests)]) + "\n}\n"


def _sha256(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except NOT_A_FILE as error:
        raise Damaged(f"{path}: {error.strerror}") from None


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # whole, so that a buffer would only cost time
            return file.readall()
    except NOT_A_FILE as error:
        raise Damaged(f"{path}: {error.strerror}") from None


def _differs(path: str) -> Damaged:
    return Damaged(f"{path}: its sha256 is not the one in {DIGESTS}")
