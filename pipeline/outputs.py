"""Outputs that take the place of those of before all at once, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(folder: Path, names: Sequence[str], read: Sequence[str] = ()) -> Iterator[Path]:
    """An empty folder to write the outputs `names` into, which take their places in `folder` when the block ends.

    A block that fails, or is stopped, leaves `folder` as it was; after one that ends well nothing of an earlier one is
    left in an output that is a folder. The entries `read` of `folder` can be read in the new one as well.
    """
    aside = folder / f".{names[0]}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    written, before = aside / "written", aside / "before"
    for place in (written, before):
        place.mkdir(parents=True)
    for name in read:
        (written / name).symlink_to((folder / name).absolute())
    try:
        yield written
        for name in names:
            if (folder / name).exists():
                (folder / name).rename(before / name)
            (written / name).rename(folder / name)
    finally:
        for kept in before.iterdir():
            if not (folder / kept.name).exists():  # stopped between the two renames
                kept.rename(folder / kept.name)
        shutil.rmtree(aside)
