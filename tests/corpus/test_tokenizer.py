"""Both tokenizers give back every text, BPE training is reproducible, and cutting long text changes no token.

Reference: the text itself, and the `tokenizers` library's own encoding of the whole text.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.tokenizer import BpeTokenizer, ByteTokenizer, pieces, read_tokenizer, train_bpe
from tests.corpus.conftest import TEXTS

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
words = st.lists(st.sampled_from(["the", " fox", "\n\n  ", "don't", "x=1", "\u00e9t\u00e9", "\u3000", "  ", "'s", "9"]))
BPE = train_bpe(TEXTS, 400)
BYTES = ByteTokenizer()


@pytest.mark.parametrize("tokenizer", [BYTES, BPE])
@given(text=texts)
def test_decoding_gives_the_text_back(tokenizer: ByteTokenizer | BpeTokenizer, text: str) -> None:
    ids = tokenizer.encode(text.encode())
    assert tokenizer.decode(ids) == text.encode()
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())
    assert tokenizer.separator not in ids


@given(text=texts | words.map("".join))
def test_bpe_agrees_with_the_library_and_survives_its_file(text: str) -> None:
    ids = BPE.encode(text.encode()).tolist()
    assert ids == BPE.model.encode(text).ids
    assert BPE.model.decode(ids) == text
    assert read_tokenizer(BPE.serialized()).encode(text.encode()).tolist() == ids


@given(words, st.integers(8, 40))
def test_pieces_encode_to_the_tokens_of_the_whole(words: list[str], piece_bytes: int) -> None:
    text = "".join(f"{word} ok {word}" for word in words)
    parts = list(pieces(text.encode(), piece_bytes))
    assert "".join(part.decode() for part in parts) == text
    assert [token for part in parts for token in BPE.model.encode(part.decode()).ids] == BPE.model.encode(text).ids
    assert max(map(len, parts), default=0) < piece_bytes + 32


def test_text_without_white_space_is_cut_between_characters() -> None:
    content = ("\u20ac" * 1000).encode()
    parts = list(pieces(content, piece_bytes=16))
    assert b"".join(parts) == content
    assert max(map(len, parts)) <= 64
    assert all(part.decode() for part in parts)


def test_vocabularies_have_the_asked_size_and_know_their_bytes() -> None:
    assert BPE.vocab_size == 400
    assert BPE.token_bytes()[BPE.separator] == 0
    assert sorted(spelling for spelling in BPE.spellings if len(spelling) == 1) == [bytes([i]) for i in range(256)]
    assert BYTES.token_bytes().tolist() == [0] + [1] * 255
    assert train_bpe(["abc"], 257).vocab_size == 257
    assert read_tokenizer(BYTES.serialized()) == BYTES


def test_training_gives_the_same_file_in_processes_with_and_without_threads() -> None:
    script = (
        "from pipeline.corpus.tokenizer import train_bpe\n"
        "texts = [f'{i} {i * 7919 % 1013} word{i % 97} {i % 13}' for i in range(3000)]\n"
        "print(train_bpe(texts, 700).serialized())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"TOKENIZERS_PARALLELISM": parallel, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for parallel, seed in [("true", "1"), ("false", "2"), ("true", "3")]
    }
    assert len(outputs) == 1


def test_batches_encode_like_single_texts() -> None:
    contents = [text.encode() for text in TEXTS] + [b"", b"x"]
    together = BPE.encode_all(contents)
    assert all(np.array_equal(ids, BPE.encode(content)) for ids, content in zip(together, contents, strict=True))
