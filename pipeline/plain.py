"""Values as plain JSON types."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np


def read_json(path: Path) -> Any:
    """The value in the file `path`. Raises ValueError naming it, and the line, where it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from None


def plain(value: Any, digits: int | None = None) -> Any:
    """`value` in plain JSON types: floats to `digits` significant digits (None: as they are), None if not finite."""
    if isinstance(value, dict):
        return {str(key): plain(entry, digits) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else float(f"{value:.{digits}g}")
    return int(value) if isinstance(value, np.integer) else value


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """The leaves of nested JSON under dotted names; a pair of numbers becomes .low and .high, another list its JSON."""
    leaves: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) == 2 and all(map(number, value)):
            leaves |= {f"{prefix}{name}.low": value[0], f"{prefix}{name}.high": value[1]}
        else:
            leaves[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
    return leaves


def number(value: object) -> bool:
    """True for an int or a float, which MLflow holds as a metric."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
