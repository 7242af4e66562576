"""Where the text comes from: files are located first (sorted by path), then read one document at a time.

Local paths, s3:// and hf:// all go through fsspec; lines.py reads text and JSON lines, tables.py reads Parquet.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fsspec import AbstractFileSystem
from fsspec.core import has_magic, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline import params

Advance = Callable[[int], None]
"""Called with the number of stored bytes of source files just read."""

FOLDER_SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst"),
    "parquet": (".parquet",),
    "text": ("",),
}
"""Which files a folder stands for, by kind of source; hidden files and folders never count."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: `name` enters the digest, `shown` stands in messages, `num_bytes` is as stored."""

    file_system: AbstractFileSystem
    path: str
    name: str
    shown: str
    num_bytes: int


@dataclass(frozen=True)
class Document:
    """The bytes of one document as found, valid or not; `name` is that of its file."""

    name: str
    content: bytes


def locate(source: params.Source, place: str) -> list[SourceFile]:
    """The files of `source`, sorted by path; `place` is where params.yaml names the source."""
    if isinstance(source, params.PackageSource):
        return _package_files(source.names, place)
    place = f"{place}.path: {source.path!r}"
    try:
        file_system, root = url_to_fs(source.path)
        found = _find(file_system, root, FOLDER_SUFFIXES[source.kind])
    except FileNotFoundError:
        raise ValueError(f"{place} does not exist") from None
    except Exception as error:
        raise ValueError(f"{place} cannot be read: {one_line(error)}") from error
    if not found:
        what = "matches no file" if has_magic(source.path) else f"is a folder without a {source.kind} file"
        raise ValueError(f"{place} {what}")
    return [
        SourceFile(file_system, path, path.rsplit("/", 1)[-1], _shown(file_system, path), found[path])
        for path in sorted(found)
    ]


def describe_packages(names: list[str]) -> str:
    """The installed version of each package, for messages."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(names))


def raw_chunks(file: SourceFile, advance: Advance, chunk_bytes: int = 1 << 16) -> Iterator[bytes]:
    """The stored bytes of `file`, in pieces; ValueError names the file when it cannot be read."""
    try:
        opened = file.file_system.open(file.path, "rb")
    except Exception as error:
        raise ValueError(f"{file.shown}: cannot be opened: {one_line(error)}") from error
    with opened:
        while True:
            try:
                chunk = opened.read(chunk_bytes)
            except Exception as error:
                raise ValueError(f"{file.shown}: cannot be read: {one_line(error)}") from error
            if not chunk:
                return
            advance(len(chunk))
            yield chunk


def one_line(error: Exception) -> str:
    """The kind and message of `error` without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _find(file_system: AbstractFileSystem, root: str, suffixes: tuple[str, ...]) -> dict[str, int]:
    """Path and size in bytes of the files that `root` stands for: a glob, a folder or a file."""
    literal = isinstance(file_system, LocalFileSystem) and os.path.exists(root)
    if has_magic(root) and not literal:
        entries = file_system.glob(root, detail=True)
    elif file_system.isdir(root):
        entries = {
            path: entry
            for path, entry in file_system.find(root, detail=True).items()
            if path.endswith(suffixes) and not _hidden(path, root)
        }
    else:
        entries = {root: file_system.info(root)}
    return {path: entry.get("size") or 0 for path, entry in entries.items() if entry["type"] == "file"}


def _hidden(path: str, root: str) -> bool:
    return any(part.startswith(".") for part in path.removeprefix(root).split("/"))


def _shown(file_system: AbstractFileSystem, path: str) -> str:
    if not isinstance(file_system, LocalFileSystem):
        return file_system.unstrip_protocol(path)
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _package_files(names: list[str], place: str) -> list[SourceFile]:
    """The Python source files that the packages' wheels ship, sorted by relative name over all packages."""
    local = LocalFileSystem()
    files: dict[str, SourceFile] = {}
    for name in names:
        try:
            shipped = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"{place}.names: package {name!r} is not installed") from None
        python = [entry for entry in shipped if entry.suffix == ".py" and ".." not in entry.parts]
        if not python:
            raise ValueError(f"{place}.names: package {name!r} ships no Python source file")
        for entry in python:
            path = Path(entry.locate())
            if not path.is_file():
                raise ValueError(f"{place}.names: package {name!r} is damaged: {path} is missing")
            files[entry.as_posix()] = SourceFile(
                local, str(path), entry.as_posix(), entry.as_posix(), path.stat().st_size
            )
    return [files[name] for name in sorted(files)]
