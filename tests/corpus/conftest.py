"""Real small corpora in tmp_path, prepared by the code under test."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zstandard

from pipeline import params
from pipeline.corpus.prepare import prepare_corpus
from pipeline.corpus.shards import Corpus, open_corpus
from pipeline.corpus.tokenizer import read_tokenizer

TEXTS = [f"Document {i}: the quick brown fox {'jumps ' * (i % 7)}over {i * i} lazy dogs.\n" for i in range(60)]


def settings(*sources: dict, tokenizer: dict | None = None, fraction: float = 0.3, seed: int = 0) -> params.Prepare:
    """The section `prepare` with these sources; bytes unless said otherwise."""
    return params.Prepare.model_validate(
        {
            "sources": list(sources),
            "tokenizer": tokenizer or {"kind": "bytes"},
            "validation_fraction": fraction,
            "split_seed": seed,
        }
    )


def jsonl(texts: list[str | None], column: str = "text") -> bytes:
    """One JSON object a line, with another field before the text."""
    return "".join(json.dumps({"id": i, column: text}) + "\n" for i, text in enumerate(texts)).encode()


def packed(path: Path, content: bytes) -> Path:
    """`path`, filled with `content` compressed as its suffix says."""
    encode = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode.get(path.suffix, bytes)(content))
    return path


def documents(folder: Path, split: str) -> list[bytes]:
    """The documents of a prepared corpus, decoded from its token file by its offsets."""
    corpus = open_corpus(folder)
    tokenizer = read_tokenizer((folder / "tokenizer.json").read_text())
    tokens, offsets = getattr(corpus, split), getattr(corpus, f"{split}_documents")
    bounds = np.append(offsets, len(tokens))
    assert all(tokens[end - 1] == corpus.separator for end in bounds[1:])
    return [tokenizer.decode(tokens[start:end]) for start, end in pairwise(bounds)]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in `folder`."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., tuple[dict, Corpus]]:
    """A function that prepares sources into tmp_path/tokens: manifest and opened corpus."""

    def run(*sources: dict, out: str = "tokens", **options) -> tuple[dict, Corpus]:
        manifest = prepare_corpus(settings(*sources, **options), tmp_path / out, lambda *_: None)
        return manifest, open_corpus(tmp_path / out)

    return run
