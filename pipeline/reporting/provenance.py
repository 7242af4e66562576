"""Where a report came from: commit, DVC hashes of every stage before it, versions of the libraries."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ruamel.yaml import YAML

LIBRARIES = ("torch", "numpy", "scipy", "polars", "dvc", "ray", "mlflow", "tokenizers", "matplotlib", "jinja2")
# What a study writes; a change there is a result, not a change of the source that made it.
_GENERATED = ("dvc.lock", "results", "reports", "publications", "plan", "telemetry", "runs", "data")


@dataclass(frozen=True)
class Hash:
    """One file or folder of a stage as dvc.lock has it; `role` is "dep" or "out", `size` in bytes."""

    stage: str
    role: str
    path: str
    md5: str
    size: int | None


@dataclass(frozen=True)
class Provenance:
    """Commit (None outside git), the changed source files, DVC hashes, and library versions by name."""

    commit: str | None
    committed_at: str | None
    changed: tuple[str, ...]
    hashes: tuple[Hash, ...]
    versions: dict[str, str]


def read_provenance(root: Path, before: str = "report") -> Provenance:
    """The provenance of the study in `root`, with the hashes of all stages of dvc.lock except `before`."""
    commit, changed = read_commit(root)
    return Provenance(
        commit=commit,
        committed_at=_git(root, "show", "-s", "--format=%cI", "HEAD") if commit else None,
        changed=changed,
        hashes=_locked_hashes(root / "dvc.lock", before),
        versions=_versions(),
    )


def read_commit(root: Path) -> tuple[str | None, tuple[str, ...]]:
    """(commit of the study in `root`, None outside git; the source files that differ from it, sorted)."""
    commit = _git(root, "rev-parse", "HEAD")
    kept = [f":(exclude){path}" for path in _GENERATED]
    status = (_git(root, "status", "--porcelain", "--no-renames", "-z", "--", ".", *kept) or "") if commit else ""
    return commit, tuple(sorted(entry[3:] for entry in status.split("\0") if entry))


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.rstrip("\n")


def _locked_hashes(path: Path, before: str) -> tuple[Hash, ...]:
    if not path.exists():
        return ()
    stages = (YAML(typ="safe").load(path) or {}).get("stages") or {}
    return tuple(
        Hash(stage, role, entry["path"], entry.get("md5") or entry.get("etag") or "", entry.get("size"))
        for stage, facts in stages.items()
        if stage != before
        for role, key in (("dep", "deps"), ("out", "outs"))
        for entry in facts.get(key) or []
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
