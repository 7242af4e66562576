"""Documents out of Parquet files, scanned by Polars in batches: only the text column is read."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipeline.corpus.sources import Advance, Document, SourceFile, one_line

_BATCH_ROWS = 4096


def read_parquet(file: SourceFile, column: str, place: str, advance: Advance) -> Iterator[Document]:
    """The cells of `column` (String or Binary) in the order of the rows; null counts as empty text."""
    try:
        table = pl.scan_parquet(file.url, glob=False)
        schema = table.collect_schema()
        if column not in schema:
            raise ValueError(f"{file.shown}: no column {column!r} ({place}.column); the file has {schema.names()}")
        if schema[column] not in (pl.String, pl.Binary):
            raise ValueError(f"{file.shown}: column {column!r} ({place}.column) is {schema[column]}, not text")
        num_rows = table.select(pl.len()).collect().item()
        batches = table.select(pl.col(column).cast(pl.Binary)).collect_batches(chunk_size=_BATCH_ROWS, lazy=True)
        rows_read = 0
        for batch in batches:
            before = file.num_bytes * rows_read // num_rows
            rows_read += batch.height
            advance(file.num_bytes * rows_read // num_rows - before)
            for content in batch[column]:
                yield Document(file.name, content or b"")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{file.shown}: cannot be read as Parquet: {one_line(error)}") from error
