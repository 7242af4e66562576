"""The hash that DVC gives a file or a folder, so that an MLflow run leads to the bytes it mirrors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def dvc_hash(path: Path) -> str:
    """`md5` of `path` as dvc.lock has it, for DVC 3: of the bytes of a file; of the listing of a folder, with ".dir".

    The listing is the JSON of {md5, relpath} of every file, sorted by relpath. What .dvcignore leaves out is not left
    out here. Raises FileNotFoundError where there is nothing.
    """
    if path.is_file():
        return _file_hash(path)
    if not path.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    listing = [{"md5": _file_hash(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
