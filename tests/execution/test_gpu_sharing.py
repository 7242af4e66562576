"""NVIDIA's service around a study, with a program of its name in its place that writes down what it is told."""

import os
import tempfile

import pytest

from pipeline.execution.gpu_sharing import CONTROL, PIPES, shared_gpus

PROGRAM = """#!/bin/sh
echo "$@ $(test -t 0 || cat)" >> "$0.said"
test ! -e "$0.runs" || test "$1" != -d
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The program on the PATH, first of all; and what it was told by now."""
    path = tmp_path / "bin" / CONTROL
    path.parent.mkdir()
    path.write_text(PROGRAM)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(PIPES, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return path


def said(program):
    path = program.with_name(f"{CONTROL}.said")
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_the_service_lasts_as_long_as_the_study(program):
    with shared_gpus():
        (folder,) = (program.parents[1] / "tmp").iterdir()
        assert os.environ[PIPES] == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert said(program) == ["-d "]
    assert PIPES not in os.environ
    assert said(program) == ["-d ", " quit"]


def test_one_that_runs_already_is_used_and_left_alone(program):
    program.with_name(f"{CONTROL}.runs").touch()
    with shared_gpus():
        assert PIPES in os.environ
    assert PIPES not in os.environ
    assert said(program) == ["-d "]


def test_a_users_own_service_is_left_alone(program, monkeypatch):
    monkeypatch.setenv(PIPES, "/theirs")
    with shared_gpus():
        assert os.environ[PIPES] == "/theirs"
    assert said(program) == []


def test_a_folder_that_others_can_write_to_is_not_used(program):
    folder = program.parents[1] / "tmp" / f"study-mps-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with shared_gpus():
        assert PIPES not in os.environ
    assert said(program) == []
