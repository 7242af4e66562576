"""Token files hold what was added, and a folder that is missing or garbled is refused in one line.

Reference: numpy's own reading of the raw files; the kernel's /dev/full for a disk without room.
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.shards import TokenFile, _verified, open_corpus, token_dtype, write_array, write_file
from tests.corpus.conftest import TEXTS, jsonl


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65_536, "uint16"), (65_537, "uint32")]
)
def test_the_token_type_is_the_smallest_that_fits(vocab_size: int, dtype: str) -> None:
    assert token_dtype(vocab_size) == dtype


def test_a_token_file_is_its_documents_each_with_a_separator(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    documents = [generator.integers(1, 60_000, size=size) for size in (3, 0, 700_000, 5)]
    file = TokenFile(tmp_path / "a.bin", "uint16")
    for document in documents:
        file.add(document, separator=0)
    file.close()
    expected = np.concatenate([np.append(document, 0) for document in documents])
    assert np.array_equal(np.fromfile(tmp_path / "a.bin", dtype="<u2"), expected)
    assert list(file.offsets) == [0, 4, 5, 700_006]
    assert file.num_tokens == len(expected)
    assert file.sha256.hexdigest() == hashlib.sha256((tmp_path / "a.bin").read_bytes()).hexdigest()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "write", [write_file, lambda path, content: write_array(path, np.frombuffer(content, np.int8))]
)
def test_a_full_disk_is_told_in_one_line(write) -> None:
    with pytest.raises(OSError, match=r"the disk is full; nothing was replaced.*'/dev/full'") as error:
        write(Path("/dev/full"), b"content")
    assert error.value.errno == errno.ENOSPC


def test_an_opened_corpus_agrees_with_its_manifest_and_cannot_be_changed(tmp_path: Path, prepare) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS))
    manifest, corpus = prepare({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")})
    for split in ("train", "validation"):
        tokens = getattr(corpus, split)
        counts = (len(tokens), len(getattr(corpus, f"{split}_documents")), int(corpus.token_bytes[tokens].sum()))
        assert dict(zip(("tokens", "documents", "bytes"), counts, strict=True)) == manifest[split]
        assert (getattr(corpus, f"{split}_tokens"), getattr(corpus, f"{split}_bytes")) == counts[::2]
        with pytest.raises(ValueError, match="read-only"):
            tokens[0] = 1
    assert (corpus.digest, corpus.vocab_size, corpus.separator) == (manifest["digest"], 256, 0)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("manifest.json", Path.unlink, "No such file"),
        ("manifest.json", _cut, "JSONDecodeError"),
        ("manifest.json", lambda path: path.write_bytes(path.read_bytes() + b" "), "manifest.json is damaged"),
        ("manifest.json", lambda path: path.write_text("{}\n"), "KeyError: 'sha256'"),
        ("manifest.json", lambda path: path.write_text("[]\n"), "AttributeError|TypeError"),
        ("train.bin", Path.unlink, "No such file"),
        ("train.bin", _cut, "train.bin is damaged"),
        ("validation.bin", lambda path: path.write_bytes(b""), "validation.bin is damaged"),
        ("validation_documents.npy", _cut, "validation_documents.npy is damaged"),
        ("token_bytes.npy", lambda path: np.save(path, np.ones(3)), "token_bytes.npy is damaged"),
        ("tokenizer.json", _cut, "tokenizer.json is damaged"),
    ],
)
def test_a_missing_or_garbled_corpus_is_refused_in_one_line(tmp_path: Path, prepare, name, damage, reason) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS))
    prepare({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")})
    damage(tmp_path / "tokens" / name)
    with pytest.raises(ValueError, match=f"tokens: not a prepared corpus .*{reason}.*run the stage `prepare`") as error:
        open_corpus(tmp_path / "tokens")
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none: not a prepared corpus"):
        open_corpus(tmp_path / "none")


def test_files_are_read_once_a_process_and_again_when_touched(tmp_path: Path, prepare) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS))
    prepare({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")})
    seen = _verified.cache_info()
    open_corpus(tmp_path / "tokens")
    assert _verified.cache_info().hits == seen.hits + 1
    data = bytearray((tmp_path / "tokens/train.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "tokens/train.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"train\.bin is damaged"):
        open_corpus(tmp_path / "tokens")
