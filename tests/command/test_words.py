"""Files that commands write: whole, or an error that names what was asked for, with nothing left beside it."""

import errno
from pathlib import Path

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
