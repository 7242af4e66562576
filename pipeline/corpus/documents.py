"""Which documents count: valid text, each content once, divided between training and validation by content alone."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "validation"]

SPLIT_RULE = "a document is validation when keyed blake2b(its content hash; split_seed) / 2^64 < fraction"


class Sieve:
    """Sends each document to a split or drops it, and remembers what it has seen (about 100 bytes a document).

    Where a document goes depends on its content and the seed, never on its name or on the order of reading.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self.num_duplicates = 0
        self.num_empty = 0
        self.num_invalid = 0
        self._threshold = fraction * 2.0**64
        self._key = str(seed).encode()
        self._seen: set[bytes] = set()

    def place(self, content: bytes) -> tuple[Split, int] | None:
        """The split of `content` and its rank in the random order from which samples are drawn; None when dropped."""
        if not content.strip():
            self.num_empty += 1
            return None
        if not is_text(content):
            self.num_invalid += 1
            return None
        fingerprint = hashlib.blake2b(content, digest_size=16).digest()
        if fingerprint in self._seen:
            self.num_duplicates += 1
            return None
        self._seen.add(fingerprint)
        drawn = hashlib.blake2b(fingerprint, digest_size=16, key=self._key).digest()
        split: Split = "validation" if int.from_bytes(drawn[:8], "big") < self._threshold else "train"
        return split, int.from_bytes(drawn[8:], "big")


def is_text(content: bytes) -> bool:
    """True when `content` is UTF-8 without NUL, which is kept for the end of a document."""
    if b"\0" in content:
        return False
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
