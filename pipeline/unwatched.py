"""What a study is made from and DVC does not watch: a change there reruns nothing by itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem

from pipeline.params import Model, PackageSource, Source
from pipeline.planning.code import own_files

LOCAL = (None, "file", "local")


def sources_elsewhere(sources: Iterable[Source]) -> list[str]:
    """A note on each text source of this machine that lies outside corpus/."""
    watched = Path("corpus").absolute()
    return [
        f"note: params.yaml: prepare.sources.{number}.path: {source.path} lies outside corpus/, which DVC watches:"
        " after a change there run `dvc repro -f prepare`"
        for number, source in enumerate(sources)
        if not isinstance(source, PackageSource)
        and split_protocol(source.path)[0] in LOCAL
        and not Path(os.path.normpath(LocalFileSystem._strip_protocol(source.path))).is_relative_to(watched)
    ]


def code_elsewhere(model: Model) -> list[str]:
    """A note on the files outside own/ that a model of the user's own is made from."""
    files = own_files(model.build.partition(":")[0]) if model.build else []
    if not (outside := [file for file in files if not file.startswith("own/")]):
        return []
    return [
        f"note: params.yaml: language_model.model.build: {model.build} uses {', '.join(outside)} outside own/,"
        " which DVC watches: after an edit run `dvc repro -f plan`"
    ]
