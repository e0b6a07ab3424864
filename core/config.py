"""The base class of all configs: frozen, keyword-only; an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base class of all configs. The stage cache hashes their JSON: equal configs have equal JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @property
    def context(self) -> object:
        """What the result depends on besides the config and the inputs; part of the cache key."""
        return None
