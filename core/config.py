"""The base class of all configs: frozen, keyword-only; an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base class of all configs. The stage cache hashes their JSON: equal configs have equal JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
