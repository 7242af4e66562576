"""Section `prepare`: the text and its tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline.params.section import Section


class PackageSource(Section):
    """Python source files inside installed packages; `sha256` pins the bytes (None: not checked)."""

    kind: Literal["packages"]
    names: Annotated[list[str], Field(min_length=1)]
    sha256: str | None = None


class TextSource(Section):
    """Text files, one document a file: a folder, a file or a glob; local, s3:// or hf://."""

    kind: Literal["text"]
    path: Annotated[str, Field(min_length=1)]


class JsonlSource(Section):
    """One JSON object a line with the text in `column`; plain, .gz or .zst."""

    kind: Literal["jsonl"]
    path: Annotated[str, Field(min_length=1)]
    column: str = "text"


class ParquetSource(Section):
    """Parquet files with the text in `column`."""

    kind: Literal["parquet"]
    path: Annotated[str, Field(min_length=1)]
    column: str = "text"


Source = Annotated[PackageSource | TextSource | JsonlSource | ParquetSource, Field(discriminator="kind")]


class BytesTokenizer(Section):
    """One token a byte, V = 256; byte 0 separates documents."""

    kind: Literal["bytes"]


class BpeTokenizer(Section):
    """Byte-level BPE trained on at most `sample_bytes` of the training split."""

    kind: Literal["bpe"]
    vocab_size: Annotated[int, Field(ge=257, le=65536)]
    sample_bytes: PositiveInt = 16_000_000


Tokenizer = Annotated[BytesTokenizer | BpeTokenizer, Field(discriminator="kind")]


class Prepare(Section):
    """Where the text comes from and how it becomes tokens."""

    sources: Annotated[list[Source], Field(min_length=1)]
    tokenizer: Tokenizer
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: int = 0
