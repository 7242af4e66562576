"""The prepared corpus on disk: token files that are written as a stream and opened as memory maps.

A folder holds train.bin and validation.bin (little-endian token ids), train_documents.npy and
validation_documents.npy (int64 offset of each document, in tokens), token_bytes.npy (int32[V]), tokenizer.json and
manifest.json, which holds the sha256 of every other file and of itself.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
from array import array
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

MANIFEST = "manifest.json"
FILES = (
    "train.bin",
    "validation.bin",
    "train_documents.npy",
    "validation_documents.npy",
    "token_bytes.npy",
    "tokenizer.json",
)
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus: 1-D token ids, offsets of documents in tokens, sizes in tokens and bytes of text."""

    digest: str
    vocab_size: int
    separator: int
    token_bytes: np.ndarray = field(repr=False)
    train: np.ndarray = field(repr=False)
    validation: np.ndarray = field(repr=False)
    train_documents: np.ndarray = field(repr=False)
    validation_documents: np.ndarray = field(repr=False)
    train_tokens: int
    validation_tokens: int
    train_bytes: int
    validation_bytes: int


def open_corpus(path: Path) -> Corpus:
    """The corpus that `prepare` left in the folder `path`.

    Raises ValueError in one line naming the file that is missing, truncated or changed. Files are compared with the
    manifest once a process, and again only when one of them was touched.
    """
    try:
        stamps = tuple(_stamp(path / name) for name in (MANIFEST, *FILES))
        manifest = _verified(path, stamps)
        arrays = {}
        for split in ("train", "validation"):
            dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
            arrays[split] = np.memmap(path / f"{split}.bin", dtype=dtype, mode="r")
            arrays[f"{split}_documents"] = np.load(path / f"{split}_documents.npy", allow_pickle=False)
        return Corpus(
            digest=manifest["digest"],
            vocab_size=manifest["vocab_size"],
            separator=manifest["separator"],
            token_bytes=np.load(path / "token_bytes.npy", allow_pickle=False),
            train_tokens=manifest["train"]["tokens"],
            validation_tokens=manifest["validation"]["tokens"],
            train_bytes=manifest["train"]["bytes"],
            validation_bytes=manifest["validation"]["bytes"],
            **arrays,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{path}: not a prepared corpus ({reason}); run the stage `prepare`") from error


def write_manifest(folder: Path, facts: dict) -> dict:
    """The manifest written to `folder`: `facts`, the sha256 of every file there, and its own."""
    manifest = facts | {"files": {name: _sha256(folder / name) for name in FILES}}
    manifest["sha256"] = _own_sha256(manifest)
    write_file(folder / MANIFEST, _text(manifest))
    return manifest


@lru_cache(maxsize=4)
def _verified(path: Path, stamps: tuple) -> dict:
    """The manifest of `path`, all of whose files are as it says. `stamps` tell touched files from those seen before."""
    data = (path / MANIFEST).read_bytes()
    manifest = json.loads(data)
    if data != _text(manifest) or manifest["sha256"] != _own_sha256(manifest):
        raise ValueError(f"{MANIFEST} is damaged: it does not have the sha256 that was written with it")
    for name in FILES:
        if _sha256(path / name) != manifest["files"][name]:
            raise ValueError(f"{name} is damaged: it does not have the sha256 in {MANIFEST}")
    return manifest


def _own_sha256(manifest: dict) -> str:
    return hashlib.sha256(_text({name: value for name, value in manifest.items() if name != "sha256"})).hexdigest()


def _text(manifest: dict) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


class TokenFile:
    """A token file being written, one document after another, with its digest; memory stays bounded."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.offsets = array("q")
        self.num_tokens = 0
        self.sha256 = hashlib.sha256()
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._buffer = bytearray()
        self._file = path.open("wb", buffering=0)

    def add(self, tokens: bytes | np.ndarray, separator: int) -> None:
        """Appends one document (raw bytes where a token is a byte) and its separator."""
        self.offsets.append(self.num_tokens)
        self.num_tokens += len(tokens) + 1
        raw = tokens if isinstance(tokens, bytes) else tokens.astype(self._dtype).tobytes()
        self._buffer += raw
        self._buffer += separator.to_bytes(self._dtype.itemsize, "little")
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes what is pending."""
        self._flush()
        self._file.close()

    def discard(self) -> None:
        """Closes the file without writing what is pending."""
        self._file.close()

    def _flush(self) -> None:
        self.sha256.update(self._buffer)
        _write(self._file, self._buffer, self.path)
        self._buffer = bytearray()


def write_file(path: Path, content: bytes) -> None:
    """Writes `content`; a full disk is told in one line."""
    with path.open("wb", buffering=0) as file:
        _write(file, content, path)


def write_array(path: Path, values: np.ndarray) -> None:
    """Writes `values` as .npy, through memory: numpy's own writer hides the reason when a disk is full."""
    content = io.BytesIO()
    np.save(content, values)
    write_file(path, content.getvalue())


def token_dtype(vocab_size: int) -> str:
    """The smallest unsigned integer type that holds every token id."""
    return next(name for name in ("uint8", "uint16", "uint32") if vocab_size <= np.iinfo(name).max + 1)


def _write(file: BinaryIO, content: bytes | bytearray, path: Path) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, "the disk is full; nothing was replaced", str(path)) from None
        raise
