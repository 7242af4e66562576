"""Two ways from text to tokens: bytes, and byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909) by `tokenizers`.

Both put one separator token after each document. `tokenizers` was chosen over tiktoken because it also trains, and over
a BPE of our own because it is fast and its file is read everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

_SEPARATOR = "\0"
"""The text of the BPE separator: documents never hold NUL, so no text can be mistaken for it."""

_CUT = re.compile(rb"[!-~](?=[ \n])")


@dataclass(frozen=True)
class ByteTokenizer:
    """One token a byte; byte 0, which no document holds, separates documents."""

    vocab_size: int = 256
    separator: int = 0

    def encode(self, content: bytes) -> np.ndarray:
        """The token ids of `content`, without a separator."""
        return np.frombuffer(content, dtype=np.uint8)

    def decode(self, ids: np.ndarray) -> bytes:
        """The bytes that `ids` stand for; separators stand for none."""
        ids = np.asarray(ids, dtype=np.uint8)
        return ids[ids != self.separator].tobytes()

    def token_bytes(self) -> np.ndarray:
        """How many bytes of text each token stands for (int32[V]); the separator stands for none."""
        lengths = np.ones(self.vocab_size, dtype=np.int32)
        lengths[self.separator] = 0
        return lengths

    def serialized(self) -> str:
        """The text of tokenizer.json."""
        return '{"kind": "bytes"}\n'


@dataclass(frozen=True)
class BpeTokenizer:
    """Byte-level BPE: any text round-trips; `spellings` holds the bytes that each token stands for."""

    model: tokenizers.Tokenizer
    separator: int
    spellings: tuple[bytes, ...] = field(repr=False)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, with the separator."""
        return len(self.spellings)

    def encode(self, content: bytes) -> np.ndarray:
        """The token ids of `content`, without a separator.

        Long text is encoded piece by piece, in bounded memory; pieces end where no token can cross.
        """
        return np.concatenate(self.encode_all([content]))

    def encode_all(self, contents: list[bytes]) -> list[np.ndarray]:
        """The token ids of each of `contents`, encoded together (on all cores) for speed."""
        parts = [[piece.decode() for piece in pieces(content)] for content in contents]
        encodings = iter(self.model.encode_batch_fast([part for group in parts for part in group]))
        return [
            np.concatenate([np.zeros(0, np.uint32), *(np.array(next(encodings).ids, np.uint32) for _ in group)])
            for group in parts
        ]

    def decode(self, ids: np.ndarray) -> bytes:
        """The bytes that `ids` stand for; separators stand for none."""
        return b"".join(self.spellings[token] for token in ids)

    def token_bytes(self) -> np.ndarray:
        """How many bytes of text each token stands for (int32[V]); the separator stands for none."""
        return np.array([len(spelling) for spelling in self.spellings], dtype=np.int32)

    def serialized(self) -> str:
        """The text of tokenizer.json, in the format of the `tokenizers` library."""
        return self.model.to_str(pretty=True) + "\n"


Tokenizer = ByteTokenizer | BpeTokenizer


def train_bpe(texts: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """A byte-level BPE of at most `vocab_size` tokens: separator, 256 bytes, and the merges that `texts` support."""
    model = tokenizers.Tokenizer(BPE())
    model.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    model.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_SEPARATOR],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return _bpe(model)


def read_tokenizer(serialized: str) -> Tokenizer:
    """The tokenizer whose tokenizer.json holds `serialized`."""
    if json.loads(serialized) == {"kind": "bytes"}:
        return ByteTokenizer()
    return _bpe(tokenizers.Tokenizer.from_str(serialized))


def pieces(content: bytes, piece_bytes: int = 1 << 16) -> Iterator[bytes]:
    """`content` in pieces of about `piece_bytes`, whose encodings put together are the encoding of the whole.

    A cut falls before white space that follows a printable ASCII character: the byte-level pattern lets no token
    cross it. Text without such a place for 4 `piece_bytes` is cut between characters, where a token may be lost.
    """
    start = 0
    while len(content) - start > piece_bytes:
        furthest = min(start + 4 * piece_bytes, len(content))
        found = _CUT.search(content, start + piece_bytes, furthest)
        end = found.end() if found else furthest
        while end < len(content) and content[end] & 0xC0 == 0x80:
            end -= 1
        yield content[start:end]
        start = end
    if start < len(content):
        yield content[start:]


def _bpe(model: tokenizers.Tokenizer) -> BpeTokenizer:
    """`model` with the bytes of its tokens: byte-level BPE spells each byte as one printable character."""
    separator = model.token_to_id(_SEPARATOR)
    if separator is None:
        raise ValueError("tokenizer.json: no separator token '\\0'")
    byte_of = _byte_of_character()
    spellings = tuple(
        b"" if token == separator else bytes(byte_of[character] for character in model.id_to_token(token))
        for token in range(model.get_vocab_size())
    )
    return BpeTokenizer(model, separator, spellings)


def _byte_of_character() -> dict[str, int]:
    """The byte that each character of the byte-level alphabet stands for: GPT-2's table (github.com/openai/gpt-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
