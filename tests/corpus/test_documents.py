"""The sieve keeps each valid text once and splits by content and seed alone.

Reference: Python's own sets and UTF-8 codec; the binomial law for the size of the split.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.documents import Sieve, is_text

contents = st.lists(st.binary(max_size=12), max_size=30)


def splits(sieve: Sieve, documents: list[bytes]) -> dict[bytes, str]:
    """The split of every document that was kept."""
    placed = [(content, sieve.place(content)) for content in documents]
    return {content: place[0] for content, place in placed if place}


@given(contents)
def test_each_valid_text_is_kept_once_and_every_dropped_one_is_counted(documents: list[bytes]) -> None:
    sieve = Sieve(0.5, seed=1)
    kept = [content for content in documents if sieve.place(content)]
    assert set(kept) == {content for content in documents if content.strip() and is_text(content)}
    assert len(kept) == len(set(kept))
    assert len(documents) == len(kept) + sieve.num_duplicates + sieve.num_empty + sieve.num_invalid


@given(contents, st.randoms())
def test_the_split_does_not_depend_on_the_order(documents: list[bytes], random) -> None:
    shuffled = random.sample(documents, len(documents))
    assert splits(Sieve(0.5, seed=3), documents) == splits(Sieve(0.5, seed=3), shuffled)


@given(st.binary(max_size=40))
def test_text_is_what_decodes_without_nul(content: bytes) -> None:
    try:
        decodes = "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        decodes = False
    assert is_text(content) == decodes


def test_the_split_has_the_asked_size_and_changes_with_the_seed() -> None:
    documents = [str(number).encode() for number in range(20_000)]
    one, two = (splits(Sieve(0.04, seed), documents) for seed in (0, 1))
    for split in (one, two):
        share = sum(name == "validation" for name in split.values()) / len(documents)
        assert abs(share - 0.04) < 4 * (0.04 * 0.96 / len(documents)) ** 0.5
    both = sum(one[content] == two[content] == "validation" for content in documents)
    assert both < 4 * 0.04**2 * len(documents)


def test_a_larger_fraction_only_moves_documents_to_validation() -> None:
    documents = [str(number).encode() for number in range(2_000)]
    small, large = (splits(Sieve(fraction, 0), documents) for fraction in (0.1, 0.3))
    assert all(large[content] == "validation" for content, split in small.items() if split == "validation")
