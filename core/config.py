"""The base class of all configs: frozen, keyword-only; an unknown key is an error."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.text import problem


class Config(BaseModel):
    """Base class of all configs. The stage cache hashes their JSON: equal configs have equal JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @property
    def context(self) -> object:
        """What the result depends on besides the config and the inputs; part of the cache key."""
        return None


C = TypeVar("C", bound=Config)


def read(kind: type[C], values: dict[str, Any], where: str) -> C:
    """`values` as a config of class `kind`; ValueError that starts with `where` and names the first problem."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise ValueError(where + problem(error, kind)) from error
