"""From sources to a prepared corpus: read, drop what is not text or came before, split, tokenize, publish at once."""

from __future__ import annotations

import hashlib
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline import params
from pipeline.corpus import tokenizer as tokenizing
from pipeline.corpus.documents import SPLIT_RULE, Sieve
from pipeline.corpus.lines import read_jsonl, read_text
from pipeline.corpus.shards import TokenFile, token_dtype, write_array, write_file, write_manifest
from pipeline.corpus.sources import Advance, Document, SourceFile, describe_packages, locate
from pipeline.corpus.tables import read_parquet

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, the bytes done and the bytes in all."""

SPLITS = ("train", "validation")
_BATCH_BYTES = 1 << 20
_SECTION = "params.yaml: prepare"


def prepare_corpus(settings: params.Prepare, out: Path, progress: Progress) -> dict:
    """The manifest of the corpus written to the folder `out`, which appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    replaced = out.with_name(f".{out.name}.replaced")
    for leftover in (partial, replaced):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        manifest = _write_corpus(settings, partial, progress)
        if out.exists():
            out.rename(replaced)
        partial.rename(out)
    finally:
        for leftover in (partial, replaced):
            if leftover.exists():
                shutil.rmtree(leftover)
    return manifest


def _write_corpus(settings: params.Prepare, folder: Path, progress: Progress) -> dict:
    """Fills `folder`. Text is first written as bytes with NUL after each document: for bytes that is the result."""
    sieve = Sieve(settings.validation_fraction, settings.split_seed)
    files = {split: TokenFile(folder / f"{split}.bin", "uint8") for split in SPLITS}
    train_ranks = array("Q")
    try:
        sources = _sift(settings.sources, sieve, files, train_ranks, progress)
    finally:
        for file in files.values():
            file.discard()
    _check_not_empty(settings, sieve, files, sum(source["documents"] for source in sources))
    num_bytes = {split: file.num_tokens - len(file.offsets) for split, file in files.items()}
    tokenizer: tokenizing.Tokenizer = tokenizing.ByteTokenizer()
    if isinstance(settings.tokenizer, params.BpeTokenizer):
        tokenizer = _train(settings.tokenizer, files["train"], train_ranks)
        files = {split: _retokenize(file, tokenizer, progress) for split, file in files.items()}
    digest = hashlib.sha256(tokenizer.serialized().encode())
    for split in SPLITS:
        digest.update(files[split].sha256.digest())
        write_array(folder / f"{split}_documents.npy", np.frombuffer(files[split].offsets, dtype=np.int64))
    write_array(folder / "token_bytes.npy", tokenizer.token_bytes())
    write_file(folder / "tokenizer.json", tokenizer.serialized().encode())
    counts = {
        split: {"tokens": files[split].num_tokens, "documents": len(files[split].offsets), "bytes": num_bytes[split]}
        for split in SPLITS
    }
    facts = {
        "digest": digest.hexdigest(),
        "dtype": token_dtype(tokenizer.vocab_size),
        "vocab_size": tokenizer.vocab_size,
        "separator": tokenizer.separator,
        **counts,
        "sources": sources,
        "duplicates": sieve.num_duplicates,
        "empty": sieve.num_empty,
        "invalid": sieve.num_invalid,
        "split": {"fraction": settings.validation_fraction, "seed": settings.split_seed, "rule": SPLIT_RULE},
        "tokenizer": settings.tokenizer.model_dump(),
    }
    return write_manifest(folder, facts)


def _sift(
    sources: list[params.Source], sieve: Sieve, files: dict[str, TokenFile], train_ranks: array, progress: Progress
) -> list[dict]:
    """What each source gave, before dropping; its documents go through `sieve` into `files`."""
    places = [f"{_SECTION}.sources.{index}" for index in range(len(sources))]
    located = [locate(source, place) for source, place in zip(sources, places, strict=True)]
    total = sum(file.num_bytes for group in located for file in group)
    done = 0

    def advance(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        progress("reading", done, total)

    summaries = []
    for source, place, group in zip(sources, places, located, strict=True):
        sha256, num_documents, num_bytes = hashlib.sha256(), 0, 0
        for document in _documents(source, place, group, advance):
            sha256.update(b"%s\0%d\0" % (os.fsencode(document.name), len(document.content)))
            sha256.update(document.content)
            num_documents += 1
            num_bytes += len(document.content)
            placed = sieve.place(document.content)
            if placed:
                split, rank = placed
                files[split].add(document.content, separator=0)
                if split == "train":
                    train_ranks.append(rank)
        _check_digest(source, place, sha256.hexdigest())
        summary = {"documents": num_documents, "bytes": num_bytes, "sha256": sha256.hexdigest()}
        summaries.append(source.model_dump() | summary)
    for file in files.values():
        file.close()
    return summaries


def _documents(source: params.Source, place: str, files: list[SourceFile], advance: Advance) -> Iterator[Document]:
    for file in files:
        match source:
            case params.JsonlSource():
                yield from read_jsonl(file, source.column, place, advance)
            case params.ParquetSource():
                yield from read_parquet(file, source.column, place, advance)
            case _:
                yield from read_text(file, advance)


def _check_digest(source: params.Source, place: str, found: str) -> None:
    if isinstance(source, params.PackageSource) and source.sha256 not in (None, found):
        raise ValueError(
            f"{place}.sha256: expected {source.sha256}, found {found} in {describe_packages(source.names)}; "
            "install the pinned versions or pin the new digest"
        )


def _check_not_empty(settings: params.Prepare, sieve: Sieve, files: dict[str, TokenFile], num_read: int) -> None:
    kept = {split: len(file.offsets) for split, file in files.items()}
    sources = f"{_SECTION}.sources: {[getattr(source, 'path', 'packages') for source in settings.sources]}"
    if num_read == sieve.num_empty:
        raise ValueError(f"{sources}: the corpus is empty (documents read: {num_read}, with text: 0)")
    if not any(kept.values()):
        raise ValueError(
            f"{sources}: no valid text in {num_read} documents ({sieve.num_invalid} are not UTF-8 or hold NUL, "
            f"{sieve.num_empty} are empty)"
        )
    for split in SPLITS:
        if not kept[split]:
            raise ValueError(
                f"{_SECTION}.validation_fraction: {settings.validation_fraction} left no document for {split} "
                f"(documents: {kept}); whole documents are split, so change the fraction or cut the text into more"
            )


def _train(settings: params.BpeTokenizer, text: TokenFile, ranks: array) -> tokenizing.BpeTokenizer:
    """A BPE trained on documents drawn by rank, at most `sample_bytes` of them, in the order of the corpus."""
    starts = np.frombuffer(text.offsets, dtype=np.int64)
    lengths = np.diff(starts, append=text.num_tokens) - 1
    order = np.argsort(np.frombuffer(ranks, dtype=np.uint64), kind="stable")
    room = settings.sample_bytes - (np.cumsum(lengths[order]) - lengths[order])
    taken = np.zeros(len(lengths), dtype=np.int64)
    taken[order] = np.clip(room, 0, lengths[order])
    chosen = np.flatnonzero(taken)
    sample = _read_documents(text.path, starts[chosen], taken[chosen])
    return tokenizing.train_bpe((content.decode(errors="ignore") for content in sample), settings.vocab_size)


def _retokenize(text: TokenFile, tokenizer: tokenizing.BpeTokenizer, progress: Progress) -> TokenFile:
    """The token file that takes the place of the byte file `text`."""
    spool = text.path.with_suffix(".text")
    text.path.rename(spool)
    starts = np.frombuffer(text.offsets, dtype=np.int64)
    lengths = np.diff(starts, append=text.num_tokens) - 1
    tokens = TokenFile(text.path, token_dtype(tokenizer.vocab_size))
    done = 0
    try:
        for batch in _batches(_read_documents(spool, starts, lengths)):
            for ids in tokenizer.encode_all(batch):
                tokens.add(ids, tokenizer.separator)
            done += sum(len(content) + 1 for content in batch)
            progress(f"tokenizing {text.path.stem}", done, text.num_tokens)
        tokens.close()
    finally:
        tokens.discard()
    spool.unlink()
    return tokens


def _read_documents(path: Path, starts: np.ndarray, lengths: np.ndarray) -> Iterator[bytes]:
    """The pieces of a byte file; read, not mapped, so that memory stays small whatever the size of the file."""
    with path.open("rb") as file:
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            file.seek(start)
            yield file.read(length)


def _batches(documents: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Documents grouped into about `_BATCH_BYTES`."""
    batch: list[bytes] = []
    num_bytes = 0
    for content in documents:
        batch.append(content)
        num_bytes += len(content)
        if num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
