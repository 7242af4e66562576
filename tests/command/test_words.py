"""Files that commands write: whole, or an error that names what was asked for, with nothing left beside it."""

import errno
import os
from pathlib import Path
from threading import Thread

import pytest

from pipeline.command.words import write_json, write_text


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_json(str(tmp_path / "a.json"), {"b": 1, "a": 2})
    write_text(str(tmp_path / "a.json"), "é\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "é\n"


@pytest.mark.parametrize(
    ("name", "number"), [("nowhere/a.json", errno.ENOENT), ("file/a.json", errno.ENOTDIR), ("folder", errno.EISDIR)]
)
def test_what_cannot_be_written_is_named_as_it_was_asked_for(tmp_path, monkeypatch, name, number):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(OSError, match=f"'{name}'$") as caught:
        write_text(name, "text")
    assert (caught.value.errno, caught.value.filename) == (number, name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_pipe_gets_what_is_written_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = Thread(target=lambda: read.append((tmp_path / "pipe").read_text(encoding="utf-8")), daemon=True)
    reader.start()
    write_text(str(tmp_path / "pipe"), "é\n")
    reader.join(10)
    assert read == ["é\n"]
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("name", ["there", "new"])
def test_a_link_stays_one_and_its_target_is_written(tmp_path, name):
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(name)
    write_text(str(tmp_path / "link"), "text")
    assert (tmp_path / "link").readlink() == Path(name)
    assert (tmp_path / name).read_text(encoding="utf-8") == "text"


def test_a_file_name_that_is_no_text_is_written_as_escapes(tmp_path):
    write_text(str(tmp_path / "a.html"), "bad\udcff.csv")
    assert (tmp_path / "a.html").read_bytes() == b"bad\\udcff.csv"
