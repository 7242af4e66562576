"""Copies of the prepared corpus where every node of a cluster finds it, and where one of them keeps its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from pipeline.corpus.shards import FILES, MANIFEST, open_corpus
from pipeline.storage import download, read, upload, write


def publish_corpus(folder: Path, storage: str) -> str:
    """URI of the copy of the corpus in `folder` under the URI `storage`, named by the sha256 of its manifest.

    The manifest comes last, so that a copy is whole where it has one. Raises OSError in one line, at once, when the
    storage takes no files.
    """
    manifest = (folder / MANIFEST).read_bytes()
    uri = f"{storage}/tokens/{hashlib.sha256(manifest).hexdigest()}"
    write(f"{storage}/tokens/writable", b"", patience=0.0)
    if read(f"{uri}/{MANIFEST}") != manifest:
        for name in FILES:
            upload(folder / name, f"{uri}/{name}")
        write(f"{uri}/{MANIFEST}", manifest)
    return uri


def corpus_at_hand(folder: Path, uri: str) -> Path:
    """The folder of the corpus that `publish_corpus` put at `uri`: `folder` where it is that one, else a copy that this
    node fetches once, verifies and keeps.

    Raises OSError or ValueError naming `uri` when what is there is not what was put there.
    """
    digest = uri.rpartition("/")[2]
    if _is(folder, digest):
        return folder
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling-study" / "tokens"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / digest
    with (cache / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_sound(kept, digest):
            _fetch(uri, digest, kept)
    return kept


def _is(folder: Path, digest: str) -> bool:
    path = folder / MANIFEST
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _is_sound(folder: Path, digest: str) -> bool:
    try:
        return _is(folder, digest) and bool(open_corpus(folder))
    except ValueError:
        return False


def _fetch(uri: str, digest: str, kept: Path) -> None:
    partial = kept.with_name(f"{digest}.partial")
    for leftover in (partial, kept):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    for name in (*FILES, MANIFEST):
        download(f"{uri}/{name}", partial / name)
    if not _is(partial, digest):
        raise ValueError(f"{uri}/{MANIFEST}: its sha256 is not the one in its name; delete it and run the study again")
    try:
        open_corpus(partial)
    except ValueError as error:
        raise ValueError(f"{uri}: {error.__cause__}; delete {uri}/{MANIFEST} and run the study again") from None
    partial.rename(kept)
