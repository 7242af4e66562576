"""A folder that proves itself: digests.json holds the sha256 of every other file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline.storage import Damaged

DIGESTS = "digests.json"
NOT_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What damage makes of a file; any other OSError is the machine's fault and says nothing about the record."""


def seal(folder: Path) -> None:
    """Writes digests.json over the files that `folder` holds."""
    (folder / DIGESTS).write_text(_text({path.name: _sha256(path) for path in folder.iterdir()}))


def read_sealed(folder: str, name: str) -> bytes:
    """The bytes of the file `name` of a sealed folder. Raises Damaged when they are not those that were sealed."""
    digests, path = _digests(folder), f"{folder}/{name}"
    if name not in digests:
        raise Damaged(f"{path}: missing in {DIGESTS}")
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != digests[name]:
        raise _differs(path)
    return data


def check_sealed(folder: Path) -> None:
    """Raises Damaged naming the first file of `folder` that is not as it was sealed, is missing, or came later."""
    digests = _digests(folder)
    held = {path.name for path in folder.iterdir()} - {DIGESTS}
    for name in sorted(digests.keys() | held):
        if name not in held:
            raise Damaged(f"{folder / name}: missing")
        if name not in digests:
            raise Damaged(f"{folder / name}: not in {DIGESTS}, so not part of the record")
        if _sha256(folder / name) != digests[name]:
            raise _differs(f"{folder}/{name}")


def _digests(folder: str | Path) -> dict[str, str]:
    data = _bytes(f"{folder}/{DIGESTS}")
    try:
        digests = json.loads(data)
        if data != _text(digests).encode():
            raise ValueError("not as it was written")
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder}/{DIGESTS}: {error}") from None
    return digests


def _text(digests: dict[str, str]) -> str:
    entries = json.dumps(dict(sorted(digests.items())), separators=(",\n ", ": "))  # `indent` would be slow
    return "{\n " + entries[1:-1] + "\n}\n"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except NOT_A_FILE as error:
        raise Damaged(f"{path}: {error.strerror}") from None


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except NOT_A_FILE as error:
        raise Damaged(f"{path}: {error.strerror}") from None


def _differs(path: str) -> Damaged:
    return Damaged(f"{path}: its sha256 is not the one in {DIGESTS}")
