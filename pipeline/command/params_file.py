"""params.yaml as commands find it, and the changes they make: comments and layout stay, what comes out is valid."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pipeline.params import Point, read_tree, validated
from pipeline.storage import write


def require(path: Path = Path("params.yaml")) -> None:
    """Raises ValueError in a folder without parameters, which is that of no study: nothing may be made there."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")


def add_points(path: Path, points: Iterable[Point]) -> None:
    """Adds `points` to language_model.grid.points of the parameters in `path`.

    Raises ValueError, before anything is written, where that does not give valid parameters.
    """
    yaml, text = _yaml(), StringIO()
    tree = read_tree(path, yaml)
    held = tree["language_model"]["grid"].setdefault("points", [])
    for point in points:
        entry = CommentedMap(point.model_dump(exclude_none=True))
        entry.fa.set_flow_style()
        held.append(entry)
    yaml.dump(tree, text)
    validated(path, YAML(typ="safe").load(text.getvalue()))
    write(str(path), text.getvalue().encode())


def _yaml() -> YAML:
    """YAML that comes out as it went in."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml
