"""Text and JSON lines out of plain, gzip and Zstandard files, as a stream.

Polars reads JSON lines too, but names no line in its errors and takes a compressed file whole; hence the standard
library's `json` and `zlib`, and `zstandard`. Both decoders are driven by hand because the usual file wrappers stop
silently at the end of the first Zstandard frame, and at a truncated one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator

import zstandard

from pipeline.corpus.sources import Advance, Document, SourceFile, one_line, raw_chunks

_LARGEST_WINDOW_BYTES = 1 << 31
_COMPRESSED_BYTES = 1 << 12
"""Decoded at a time: little, because repetitive text may grow a thousandfold."""


def read_text(file: SourceFile, advance: Advance) -> Iterator[Document]:
    """The whole of `file` as one document."""
    yield Document(file.name, b"".join(decompressed(file, advance)))


def read_jsonl(file: SourceFile, column: str, place: str, advance: Advance) -> Iterator[Document]:
    """The field `column` of every line of `file`; null counts as empty text, blank lines are no documents.

    A line that is not UTF-8 comes back as it is, so that it is counted with the other invalid documents.
    """
    for number, line in enumerate(split_lines(decompressed(file, advance)), start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            yield Document(file.name, line)
            continue
        yield Document(file.name, _field(text, column, f"{file.shown}:{number}", place))


def decompressed(file: SourceFile, advance: Advance) -> Iterator[bytes]:
    """The bytes of `file` after decompression, which its suffix decides (.gz, .zst, else none)."""
    if file.path.endswith(".gz"):
        return _decode(lambda: zlib.decompressobj(wbits=31), file, "gzip", advance)
    if file.path.endswith(".zst"):
        decoder = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW_BYTES)
        return _decode(decoder.decompressobj, file, "Zstandard", advance)
    return raw_chunks(file, advance)


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in `chunks` without their line feeds; the last one may lack it."""
    pending: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        pending.append(first)
        if others:
            yield b"".join(pending)
            yield from others[:-1]
            pending = [others[-1]]
    last = b"".join(pending)
    if last:
        yield last


def _decode(new_decoder: Callable, file: SourceFile, format_name: str, advance: Advance) -> Iterator[bytes]:
    """Decoded pieces of a file of one or more members (gzip) or frames (Zstandard); zeros between them are padding."""
    decoder = None
    for chunk in raw_chunks(file, advance, _COMPRESSED_BYTES):
        while chunk:
            if decoder is None:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                decoder = new_decoder()
            try:
                yield decoder.decompress(chunk)
            except (zlib.error, zstandard.ZstdError) as error:
                raise ValueError(f"{file.shown}: not a valid {format_name} file: {one_line(error)}") from error
            chunk = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = None
    if decoder is not None:
        raise ValueError(f"{file.shown}: the {format_name} file is truncated: it ends in mid-stream")


def _field(text: str, column: str, where: str, place: str) -> bytes:
    """UTF-8 of the string under `column` in the JSON object `text`; lone surrogates are found invalid later."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error.msg} at column {error.colno}: {text[:60]!r}") from None
    except RecursionError:
        raise ValueError(f"{where}: JSON nested too deeply: {text[:60]!r}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{where}: not a JSON object: {text[:60]!r}")
    if column not in record:
        raise ValueError(f"{where}: no field {column!r} ({place}.column); the line has {sorted(record)}")
    value = record[column]
    if value is None:
        return b""
    if not isinstance(value, str):
        raise ValueError(f"{where}: field {column!r} ({place}.column) is not text: {str(value)[:60]!r}")
    return value.encode("utf-8", "surrogatepass")
