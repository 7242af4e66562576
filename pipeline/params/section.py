"""What every section of params.yaml has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml: frozen, with unknown keys and silent type changes refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
