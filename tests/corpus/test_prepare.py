"""prepare gives the same bytes whatever the machine shows it, keeps every document, streams, and fails whole.

Reference: the texts written, Python sets of them, the kernel's own account of peak memory, a real full file system.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params
from pipeline.corpus.documents import Sieve
from pipeline.corpus.prepare import prepare_corpus
from tests.corpus.conftest import TEXTS, contents, documents, jsonl, packed, settings

BPE = {"kind": "bpe", "vocab_size": 300, "sample_bytes": 1000}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tokenizer", [{"kind": "bytes"}, BPE])
def test_every_text_is_in_exactly_one_split_and_in_the_order_of_the_corpus(tmp_path: Path, prepare, tokenizer) -> None:
    packed(tmp_path / "in/a.jsonl.gz", jsonl(TEXTS[:40]))
    packed(tmp_path / "in/b.jsonl.zst", jsonl(TEXTS[40:]))
    manifest, _ = prepare({"kind": "jsonl", "path": str(tmp_path / "in")}, tokenizer=tokenizer)
    train, validation = (documents(tmp_path / "tokens", split) for split in ("train", "validation"))
    expected = [text.encode() for text in TEXTS]
    assert sorted(train + validation) == sorted(expected)
    assert train == [text for text in expected if text in set(train)]
    assert validation == [text for text in expected if text in set(validation)]
    assert manifest["train"]["bytes"] == len(b"".join(train))
    assert manifest["tokenizer"] == tokenizer


def test_what_is_dropped_is_counted(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "in/1.jsonl", jsonl([*TEXTS, TEXTS[3], "", None, "  \n", "a\0b", "\ud800 alone"]))
    packed(tmp_path / "in/2.jsonl", jsonl([TEXTS[5]]) + b'{"text": "\xff\xfe"}\n')
    packed(tmp_path / "texts/5.txt", TEXTS[5].encode())
    packed(tmp_path / "texts/latin.txt", "caf\u00e9".encode("latin-1"))
    sources = {"kind": "jsonl", "path": str(tmp_path / "in")}, {"kind": "text", "path": str(tmp_path / "texts")}
    manifest, _ = prepare(*sources)
    assert (manifest["duplicates"], manifest["empty"], manifest["invalid"]) == (3, 3, 4)
    assert manifest["train"]["documents"] + manifest["validation"]["documents"] == len(TEXTS)
    assert [source["documents"] for source in manifest["sources"]] == [68, 2]
    assert [source["path"] for source in manifest["sources"]] == [source["path"] for source in sources]


@pytest.mark.parametrize("tokenizer", [{"kind": "bytes"}, BPE])
def test_the_bytes_do_not_depend_on_the_order_in_which_files_were_made(tmp_path: Path, tokenizer, monkeypatch) -> None:
    found = []
    for name, order in [("one", range(60)), ("two", reversed(range(60)))]:
        for index in order:
            packed(tmp_path / name / "in" / f"{index % 7}" / f"{index}.txt", TEXTS[index].encode())
        monkeypatch.chdir(tmp_path / name)
        prepare_corpus(settings({"kind": "text", "path": "in"}, tokenizer=tokenizer), Path("tokens"), lambda *_: None)
        found.append(contents(Path("tokens")))
    assert found[0] == found[1]
    assert len(found[0]) == 7


def test_the_split_of_a_document_survives_a_larger_corpus_and_another_kind_of_file(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "small.jsonl", jsonl(TEXTS[:30]))
    prepare({"kind": "jsonl", "path": str(tmp_path / "small.jsonl")}, out="small")
    for index, text in enumerate(TEXTS):
        packed(tmp_path / f"large/{index}.txt", text.encode())
    prepare({"kind": "text", "path": str(tmp_path / "large")}, out="large")
    for split in ("train", "validation"):
        assert set(documents(tmp_path / "small", split)) <= set(documents(tmp_path / "large", split))


def test_another_seed_or_fraction_is_another_digest(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "a.jsonl", jsonl(TEXTS))
    source = {"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}
    digests = [prepare(source, **options)[0]["digest"] for options in ({}, {}, {"seed": 1}, {"fraction": 0.4})]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_bpe_learns_from_training_documents_alone(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "a.jsonl", jsonl(TEXTS))
    source = {"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}
    prepare(source)
    train = [text.decode() for text in documents(tmp_path / "tokens", "train")]
    tokenizer = {"kind": "bpe", "vocab_size": 320}
    prepare(source, tokenizer=tokenizer, out="whole")
    sieve = Sieve(0.3, seed=0)
    unseen = [text for text in (f"unheard words {number} " * 9 for number in range(20)) if _held_out(sieve, text)]
    assert len(unseen) > 2
    packed(tmp_path / "b.jsonl", jsonl([*unseen, *train]))
    prepare({"kind": "jsonl", "path": str(tmp_path / "b.jsonl")}, tokenizer=tokenizer, out="other")
    whole, other = ((tmp_path / name / "tokenizer.json").read_text() for name in ("whole", "other"))
    assert whole == other
    assert len(json.loads(whole)["model"]["merges"]) == 320 - 257


def test_a_small_sample_gives_a_small_vocabulary_and_the_manifest_says_so(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "a.jsonl", jsonl(TEXTS))
    source = {"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}
    sizes = [
        prepare(source, tokenizer={"kind": "bpe", "vocab_size": 500, "sample_bytes": sample_bytes})[0]["vocab_size"]
        for sample_bytes in (1, 60, 1_000_000)
    ]
    assert sizes[0] == 257 < sizes[1] < sizes[2]


def _held_out(sieve: Sieve, text: str) -> bool:
    placed = sieve.place(text.encode())
    return placed is not None and placed[0] == "validation"


def test_progress_counts_up_to_the_size_of_the_files(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jsonl.gz", jsonl(TEXTS))
    calls: list[tuple[str, int, int]] = []
    source = {"kind": "jsonl", "path": str(path)}
    prepare_corpus(settings(source, tokenizer=BPE), tmp_path / "tokens", lambda *call: calls.append(call))
    assert ("reading", path.stat().st_size, path.stat().st_size) in calls
    assert {step: done == total for step, done, total in calls} == {
        "reading": True,
        "tokenizing train": True,
        "tokenizing validation": True,
    }


def test_the_default_packages_are_the_pinned_bytes_and_others_are_refused(tmp_path: Path, prepare) -> None:
    source = {"kind": "packages", "names": ["networkx"]}
    found = prepare(source, fraction=0.04)[0]["sources"][0]["sha256"]
    assert prepare(source | {"sha256": found}, fraction=0.04)[0]["sources"][0]["sha256"] == found
    wrong = "0" * 64
    message = rf"prepare.sources.0.sha256: expected {wrong}, found {found} in networkx \d"
    with pytest.raises(ValueError, match=message):
        prepare(source | {"sha256": wrong}, fraction=0.04)


@pytest.mark.parametrize(
    ("texts", "fraction", "reason"),
    [
        ([], 0.3, r"prepare.sources: \['.*a.jsonl'\]: the corpus is empty \(documents read: 0"),
        (["", None], 0.3, r"the corpus is empty \(documents read: 2, with text: 0"),
        (["a\0", "", "b\0"], 0.3, r"no valid text in 3 documents \(2 are not UTF-8 or hold NUL, 1 are empty"),
        (TEXTS[:3], 0.0001, r"prepare.validation_fraction: 0.0001 left no document for validation"),
        (TEXTS[:3], 0.9999, r"prepare.validation_fraction: 0.9999 left no document for train"),
    ],
)
def test_a_corpus_without_enough_text_is_refused(tmp_path: Path, prepare, texts, fraction, reason) -> None:
    packed(tmp_path / "a.jsonl", jsonl(texts))
    with pytest.raises(ValueError, match=reason) as error:
        prepare({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}, fraction=fraction)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


def test_a_failure_keeps_the_corpus_that_was_there_and_leaves_nothing_half_made(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "a.jsonl", jsonl(TEXTS))
    source = {"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}
    prepare(source)
    before = contents(tmp_path / "tokens")
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b"{broken\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:61: not JSON"):
        prepare(source)
    assert contents(tmp_path / "tokens") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "tokens"]


def test_what_an_interrupted_run_left_is_cleared_away(tmp_path: Path, prepare) -> None:
    packed(tmp_path / "a.jsonl", jsonl(TEXTS))
    packed(tmp_path / ".tokens.partial/train.bin", b"half")
    packed(tmp_path / ".tokens.replaced/train.bin", b"old")
    packed(tmp_path / "tokens/stray.txt", b"not part of it")
    prepare({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "tokens"]
    assert "stray.txt" not in contents(tmp_path / "tokens")


PEAK = """
import json, sys
from pathlib import Path
from pipeline import params
from pipeline.corpus.prepare import prepare_corpus
def megabytes(field):
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) / 1000
before = megabytes("VmHWM")
prepare_corpus(params.Prepare.model_validate_json(sys.argv[1]), Path(sys.argv[2]), lambda *_: None)
print(json.dumps([before, megabytes("VmHWM")]))
"""


def _added_megabytes(section: params.Prepare, out: Path) -> float:
    """By how much prepare raised the peak memory of a fresh process above that of its imports."""
    command = [sys.executable, "-c", PEAK, section.model_dump_json(), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    return after - before


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_a_large_corpus_is_streamed_in_a_fraction_of_its_size(tmp_path: Path, suffix: str) -> None:
    lines = jsonl([f"{number} " * 400 for number in range(30_000)])
    assert len(lines) > 65e6
    path = packed(tmp_path / f"a.jsonl{suffix}", lines)
    assert _added_megabytes(settings({"kind": "jsonl", "path": str(path)}), tmp_path / "tokens") < 30
    assert open_size(tmp_path / "tokens") == 30_000


def open_size(folder: Path) -> int:
    """Documents in both splits, by the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest["train"]["documents"] + manifest["validation"]["documents"]


FULL = """
import sys
from pathlib import Path
from pipeline import params
from pipeline.corpus.prepare import prepare_corpus
small, large = (params.Prepare.model_validate_json(text) for text in sys.argv[2:])
out = Path(sys.argv[1]) / "tokens"
def contents():
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}
prepare_corpus(small, out, lambda *_: None)
before = contents()
try:
    prepare_corpus(large, out, lambda *_: None)
except OSError as error:
    print(error)
assert contents() == before
assert [path.name for path in out.parent.iterdir()] == ["tokens"]
"""


@pytest.mark.parametrize("tokenizer", [{"kind": "bytes"}, BPE])
def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, tokenizer) -> None:
    packed(tmp_path / "small.jsonl", jsonl(TEXTS))
    packed(tmp_path / "large.jsonl", jsonl([f"{number} " * 400 for number in range(3000)]))
    (tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, tmp_path / "disk", "true"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"a private tmpfs cannot be mounted here: {probe.stderr.decode().strip()}")
    sections = [
        settings({"kind": "jsonl", "path": str(tmp_path / name)}, tokenizer=tokenizer).model_dump_json()
        for name in ("small.jsonl", "large.jsonl")
    ]
    command = [sys.executable, "-c", FULL, str(tmp_path / "disk"), *sections]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, tmp_path / "disk", *command],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "disk/.tokens.partial/" in done.stdout
    assert "the disk is full; nothing was replaced" in done.stdout
    assert len(done.stdout.splitlines()) == 1
