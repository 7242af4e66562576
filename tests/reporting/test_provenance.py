"""Provenance of a study, against a real git repository and a dvc.lock written by hand in DVC's format."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.reporting.provenance import Hash, read_provenance

LOCK = """\
schema: '2.0'
stages:
  fit:
    cmd: python -m stages.fit
    deps:
    - {path: results/runs.parquet, hash: md5, md5: 0a1b, size: 120}
    params:
      params.yaml: {fit: {bootstrap: 200}}
    outs:
    - {path: results/findings.json, hash: md5, md5: 2c3d, size: 45}
    - {path: results/fit, hash: md5, md5: 4e5f.dir, size: 99, nfiles: 7}
  report:
    cmd: python -m stages.report
    outs:
    - {path: reports, hash: md5, md5: ffff.dir, size: 1, nfiles: 1}
"""


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "model.py").write_text("width = 1\n")
    (tmp_path / "dvc.lock").write_text(LOCK)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_commit_hashes_and_versions(repository: Path) -> None:
    found = read_provenance(repository)
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert found.changed == ()
    assert found.hashes == (
        Hash("fit", "dep", "results/runs.parquet", "0a1b", 120),
        Hash("fit", "out", "results/findings.json", "2c3d", 45),
        Hash("fit", "out", "results/fit", "4e5f.dir", 99),
    )
    assert found.versions["polars"] == version("polars")


def test_changed_source_is_named_and_results_are_not_source(repository: Path) -> None:
    (repository / "dvc.lock").write_text(LOCK.replace("0a1b", "9999"))
    (repository / "results").mkdir()
    (repository / "results/runs.csv").write_text("x\n")
    assert read_provenance(repository).changed == ()
    (repository / "model.py").write_text("width = 2\n")
    (repository / "a new file.py").write_text("")
    assert read_provenance(repository).changed == ("a new file.py", "model.py")


def test_outside_git_and_dvc_there_is_nothing_to_tell(tmp_path: Path) -> None:
    found = read_provenance(tmp_path)
    assert (found.commit, found.committed_at, found.changed, found.hashes) == (None, None, (), ())
