"""Values as plain JSON types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


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
