"""Publications: frozen facts of a study, one JSON file each in publications/, each with the digest of its content.

The standard library alone: a machine that only serves the site needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = "publications"


@dataclass(frozen=True)
class Publication:
    """What a study said when it was published.

    `published_at` is UTC, `commit` that of the results. `citation` has title, authors, licence and url; `state` is what
    `pipeline.publishing.state` makes of the results; `forecasts` are those of `pipeline.publishing.forecasts`.
    """

    published_at: str
    commit: str
    citation: dict[str, Any]
    state: dict[str, Any]
    forecasts: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """Date and commit: the name of the file, and of the version on the site."""
        return f"{self.published_at[:10]}-{self.commit[:7]}"

    @property
    def path(self) -> str:
        """The file, relative to the project."""
        return f"{FOLDER}/{self.name}.json"


def read_publications(root: Path) -> list[Publication]:
    """The publications of the study in `root`, the oldest first.

    Raises ValueError naming a file that is not one, or that was changed since it was written.
    """
    found = []
    for path in sorted((root / FOLDER).glob("*.json")):
        place = f"{FOLDER}/{path.name}"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            digest = fields.pop("digest")
            one = Publication(**fields)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{place}: not a publication ({type(error).__name__}: {error})") from None
        if digest != _digest(one):
            raise ValueError(f"{place}: digest: it was changed since it was published; `git checkout {place}`")
        if one.path != place:
            raise ValueError(f"{place}: it is the publication {one.name}")
        found.append(one)
    return sorted(found, key=lambda one: (one.published_at, one.name))


def write_publication(root: Path, one: Publication) -> Path:
    """Writes the file of a publication, whole or not at all. Raises ValueError where there is one of that name."""
    path = root / one.path
    if path.exists():
        raise ValueError(f"{one.path}: published already; a publication is never edited")
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(_text(asdict(one) | {"digest": _digest(one)}), encoding="utf-8")
    os.replace(partial, path)
    return path


def _digest(one: Publication) -> str:
    return hashlib.sha256(_text(asdict(one)).encode()).hexdigest()


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
