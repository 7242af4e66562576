"""Every kind of source gives the texts that were written, in the order of paths, and bad input one clear line.

Reference: the texts themselves, written with json, gzip, zstandard and pyarrow.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.metadata
import re
import struct
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import params
from pipeline.corpus.prepare import _documents
from pipeline.corpus.sources import locate
from tests.corpus.conftest import TEXTS, jsonl, packed, settings

PLACE = "params.yaml: prepare.sources.0"


def read(source: dict) -> list[bytes]:
    """The documents of one source."""
    (typed,) = settings(source).sources
    return [document.content for document in _documents(typed, PLACE, locate(typed, PLACE), lambda _: None)]


def refusal(source: dict) -> str:
    """The message with which `source` is refused."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        read(source)
    return str(error.value)


def encoded(texts: list[str]) -> list[bytes]:
    return [text.encode() for text in texts]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_jsonl_gives_every_line_in_order(tmp_path: Path, suffix: str) -> None:
    packed(tmp_path / f"b.jsonl{suffix}", jsonl(TEXTS[30:]))
    packed(tmp_path / f"a.jsonl{suffix}", jsonl(TEXTS[:30]))
    packed(tmp_path / "notes.md", b"not part of the corpus")
    assert read({"kind": "jsonl", "path": str(tmp_path)}) == encoded(TEXTS)
    assert read({"kind": "jsonl", "path": f"{tmp_path}/[ab].jsonl*"}) == encoded(TEXTS)


def test_files_of_several_gzip_members_and_zstandard_frames_are_read_to_the_end(tmp_path: Path) -> None:
    halves = jsonl(TEXTS[:30]), jsonl(TEXTS[30:])
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(gzip.compress(half) for half in halves) + bytes(512))
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"note"
    frames = [zstandard.ZstdCompressor().compress(half) for half in halves]
    (tmp_path / "b.jsonl.zst").write_bytes(skippable + frames[0] + skippable + frames[1])
    assert read({"kind": "jsonl", "path": str(tmp_path)}) == encoded(TEXTS + TEXTS)


def test_jsonl_forgives_blank_lines_byte_order_marks_and_a_missing_last_line_feed(tmp_path: Path) -> None:
    lines = jsonl(["one", "two", None, "thr\u00e9\u00e9"], column="body").replace(b"\n", b"\r\n\n").rstrip()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    found = read({"kind": "jsonl", "path": str(tmp_path / "a.jsonl"), "column": "body"})
    assert found == [b"one", b"two", b"", "thr\u00e9\u00e9".encode()]


def test_a_line_longer_than_the_reading_buffer_is_whole(tmp_path: Path) -> None:
    long = "x" * 300_000
    (tmp_path / "a.jsonl").write_bytes(jsonl([long, "short"]))
    assert read({"kind": "jsonl", "path": str(tmp_path)}) == [long.encode(), b"short"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_gives_every_row_in_order(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [*TEXTS, None]
    table = pa.table({"id": list(range(61)), "text": pa.array(texts).cast(kind)})
    pq.write_table(table.slice(0, 20), tmp_path / "1.parquet", row_group_size=7)
    pq.write_table(table.slice(20), tmp_path / "2.parquet", row_group_size=7)
    assert read({"kind": "parquet", "path": str(tmp_path)}) == [*encoded(TEXTS), b""]


def test_parquet_written_by_polars_is_read(tmp_path: Path) -> None:
    pl.DataFrame({"body": TEXTS}).write_parquet(tmp_path / "a.parquet")
    assert read({"kind": "parquet", "path": str(tmp_path / "a.parquet"), "column": "body"}) == encoded(TEXTS)


def test_text_is_one_document_a_file_and_hidden_files_do_not_count(tmp_path: Path) -> None:
    for name in ["b/2.txt", "a.txt", "b/1.py", "c.txt.gz", ".git/config", "b/.hidden", "d [1].txt"]:
        packed(tmp_path / name, name.encode())
    assert read({"kind": "text", "path": str(tmp_path)}) == [b"a.txt", b"b/1.py", b"b/2.txt", b"c.txt.gz", b"d [1].txt"]
    assert read({"kind": "text", "path": f"{tmp_path}/**/*.txt"}) == [b"a.txt", b"b/2.txt", b"d [1].txt"]
    assert read({"kind": "text", "path": f"{tmp_path}/d [1].txt"}) == [b"d [1].txt"]


def test_remote_files_are_read_through_their_file_system(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet")
    remote = fsspec.filesystem("memory")
    files = {
        "a.jsonl.gz": gzip.compress(jsonl(TEXTS)),
        "a.parquet": (tmp_path / "a.parquet").read_bytes(),
        "a.txt": b"".join(encoded(TEXTS)),
    }
    for name, content in files.items():
        remote.pipe(f"/corpus/{name}", content)
    assert read({"kind": "jsonl", "path": "memory://corpus/*.jsonl.gz"}) == encoded(TEXTS)
    assert read({"kind": "parquet", "path": "memory://corpus"}) == encoded(TEXTS)
    assert read({"kind": "text", "path": "memory://corpus/a.txt"}) == [files["a.txt"]]
    assert "memory://none' does not exist" in refusal({"kind": "text", "path": "memory://none"})


def test_packages_give_the_python_files_that_their_record_lists_with_the_bytes_it_pins() -> None:
    source = params.PackageSource(kind="packages", names=["networkx", "tokenizers"])
    files = locate(source, PLACE)
    names = [file.name for file in files]
    assert names == sorted(set(names))
    pinned = {str(entry): entry.hash for name in source.names for entry in importlib.metadata.files(name)}
    assert set(names) == {name for name in pinned if name.endswith(".py")}
    for file in files[:40]:
        digest = hashlib.sha256(Path(file.path).read_bytes()).digest()
        assert pinned[file.name].value == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_missing_paths_and_empty_matches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = str(tmp_path / "none")
    assert refusal({"kind": "text", "path": path}) == f"{PLACE}.path: {path!r} does not exist"
    assert "*.txt' matches no file" in refusal({"kind": "text", "path": f"{tmp_path}/*.txt"})
    assert "is a folder without a jsonl file" in refusal({"kind": "jsonl", "path": str(tmp_path)})
    assert "Protocol not known: nowhere" in refusal({"kind": "text", "path": "nowhere://x/y"})
    assert refusal({"kind": "packages", "names": ["no-such-package"]}) == (
        f"{PLACE}.names: package 'no-such-package' is not installed"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{nonsense", "a.jsonl:3: not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"[1, 2]", "a.jsonl:3: not a JSON object: '[1, 2]'"),
        (b'{"body": "x", "id": 1}', f"a.jsonl:3: no field 'text' ({PLACE}.column); the line has ['body', 'id']"),
        (b'{"text": 12}', f"a.jsonl:3: field 'text' ({PLACE}.column) is not text: '12'"),
        (b'{"text": ' + b"[" * 200_000, "a.jsonl:3: JSON nested too deeply"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS[:2]) + line + b"\n" + jsonl(TEXTS[2:]))
    assert reason in refusal({"kind": "jsonl", "path": str(tmp_path)})


@pytest.mark.parametrize(("suffix", "name"), [(".gz", "gzip"), (".zst", "Zstandard")])
def test_truncated_and_foreign_compressed_files_are_refused(tmp_path: Path, suffix: str, name: str) -> None:
    path = packed(tmp_path / f"a.jsonl{suffix}", jsonl(TEXTS))
    whole = path.read_bytes()
    for cut in (5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert re.search(
            rf"a\.jsonl{suffix}: the {name} file is truncated", refusal({"kind": "jsonl", "path": str(path)})
        )
    path.write_bytes(jsonl(TEXTS))
    assert f"not a valid {name} file" in refusal({"kind": "jsonl", "path": str(path)})


def test_parquet_without_the_column_or_without_text_or_garbled_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1, 2], "body": ["a", "b"]}), path)
    message = refusal({"kind": "parquet", "path": str(path)})
    assert message.endswith(f"a.parquet: no column 'text' ({PLACE}.column); the file has ['id', 'body']")
    assert f"column 'id' ({PLACE}.column) is int64, not text" in refusal(
        {"kind": "parquet", "path": str(path), "column": "id"}
    )
    path.write_bytes(path.read_bytes()[:-20])
    assert "a.parquet: cannot be read as Parquet: ArrowInvalid" in refusal({"kind": "parquet", "path": str(path)})
