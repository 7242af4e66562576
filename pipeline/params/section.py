"""What every section of params.yaml has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

LARGEST = 2**63 - 1
"""The largest integer of the tables, and the largest seed."""


class Section(BaseModel):
    """A section of params.yaml: frozen, with finite numbers, unknown keys and silent type changes refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_tables(self) -> Self:
        for name in type(self).model_fields:
            for place, value in _integers(name, getattr(self, name)):
                if abs(value) > LARGEST:
                    raise ValueError(f"{place}: {value} does not fit into 64 bits")
        return self


def _integers(place: str, value: object) -> Iterator[tuple[str, int]]:
    if isinstance(value, int):
        yield place, value
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            yield from _integers(f"{place}.{number}", entry)
