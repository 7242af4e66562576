"""The hashes that MLflow runs carry are those of dvc.lock: against a lock file that DVC itself wrote."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.tracking.dvc_hash import dvc_hash
from pipeline.tracking.stage_records import OUTPUTS
from tests.tracking.conftest import ROOT, environment

MAKE = """
from pathlib import Path
files = ["out/a/b", "out/a-b", "out/a.b", "out/a/b.c/d", "out/\\u00e9t\\u00e9 1.csv", "out/Z", "table.csv"]
for number, name in enumerate(files):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(b"line\\r\\n" * number)
"""


def test_hashes_are_those_that_dvc_writes(tmp_path: Path):
    (tmp_path / "make.py").write_text(MAKE)
    stage = {"cmd": f"{sys.executable} make.py", "deps": ["make.py"], "outs": ["out", {"table.csv": {"cache": False}}]}
    YAML().dump({"stages": {"make": stage}}, tmp_path / "dvc.yaml")
    for arguments in (["init", "--no-scm", "--quiet"], ["repro", "--quiet"]):
        command = [sys.executable, "-m", "dvc", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, env=environment(), capture_output=True)
    locked = YAML(typ="safe").load(tmp_path / "dvc.lock")["stages"]["make"]
    assert len(locked["outs"]) == 2
    for entry in locked["outs"] + locked["deps"]:
        assert dvc_hash(tmp_path / entry["path"]) == entry["md5"]


def test_nothing_has_no_hash(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="gone"):
        dvc_hash(tmp_path / "gone")


def test_the_outputs_of_the_stages_are_those_of_dvc_yaml():
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        entries = stage["outs"] + stage.get("metrics", []) + stage.get("plots", [])
        assert set(OUTPUTS[name]) == {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}
    assert list(OUTPUTS) == list(stages)
