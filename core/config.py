"""The base of every configuration object: frozen, keyword-only, and closed to unknown keys."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of all configs. Equal configs serialise to equal JSON, which is what the stage cache hashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
