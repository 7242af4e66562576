"""Ways to call the command in this process, and its results."""

import json
from dataclasses import dataclass

import pytest

from pipeline.command import main


@dataclass(frozen=True)
class Outcome:
    """What a command ended with: its exit code, what it printed, and the JSON it wrote (None when it wrote none)."""

    code: int
    out: str
    err: str
    json: dict | None

    @property
    def warned(self):
        """The names of the warnings."""
        return {one["name"] for one in self.json["warnings"]}


@pytest.fixture
def study(capsys, tmp_path):
    """Calls `study` with these words and `--json`."""

    def call(*words):
        path = tmp_path / "out.json"
        path.unlink(missing_ok=True)
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--json", str(path)])
        printed = capsys.readouterr()
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return Outcome(ended.value.code, printed.out, printed.err, found)

    return call


@pytest.fixture
def fit_of(study, tmp_path):
    """Calls `study fit` on a table of columns."""

    def call(table, *words):
        path = tmp_path / "runs.csv"
        table.write_csv(path)
        return study("fit", path, *words)

    return call
