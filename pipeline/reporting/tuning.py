"""Whether the study's learning rate and batch lay inside the regime of their own laws, as those laws found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAWS = ("mup_transfer", "batch_size")
"""The laws whose summary says under `study` how the scaling study itself was trained."""


def tuning(experiments: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], bool | None]:
    """(what the laws say of the study's rate and batch, whether both are inside their regime), from findings.json.

    None where a law was not tested or could not tell.
    """
    said = [experiments[law]["summary"].get("study") for law in LAWS if law in experiments]
    known = [one for one in said if one]
    inside = [one["inside"] for one in known]
    if False in inside:
        return tuple(one["sentence"] for one in known), False
    whole = len(known) == len(LAWS) and all(inside)
    return tuple(one["sentence"] for one in known), True if whole else None
