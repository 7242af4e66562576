"""Whether the study's recipe lay where the laws on it put the optimum: its rate, its batch, every dial alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEEDED = ("mup_transfer", "batch_size")
LAWS = (*NEEDED, "recipe_optimum")
"""The laws whose summary says under `study` how the scaling study itself was trained; without those of NEEDED nothing
is settled."""


def tuning(experiments: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], bool | None]:
    """(what the laws say of the study's recipe, whether it is inside the regime of all of them), from findings.json.

    None where a law could not tell, or one of NEEDED was not tested.
    """
    said = [experiments[law]["summary"].get("study") for law in LAWS if law in experiments]
    known = [one for one in said if one]
    inside = [one["inside"] for one in known]
    if False in inside:
        return tuple(one["sentence"] for one in known), False
    whole = set(NEEDED) <= experiments.keys() and len(known) == len(said) and all(inside)
    return tuple(one["sentence"] for one in known), True if whole else None
