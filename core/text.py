"""Small pieces of text that messages and tables are made of."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def one_line(error: object) -> str:
    """The whole message of `error` in one line."""
    return " ".join(str(error).split())


def first_line(error: Exception) -> str:
    """The first line of the message of `error`; other libraries append paragraphs of advice."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def joined(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def some(names: Sequence[str], most: int = 5) -> str:
    """ "a, b, c", and ", …" where there are more than `most`."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def spread(middle: float, low: float, high: float, form: str = "{:.2f}") -> str:
    """ "1.02 (0.96 … 1.06)"."""
    return f"{form.format(middle)} ({form.format(low)} … {form.format(high)})"


def problem(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first problem of `error`, raised by the model `kind`, in one line; the known keys when a key is unknown."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}; known keys: {', '.join(keys_at(kind, first['loc'][:-1]))}"
    given = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{where}{given}: {message}" if where else message


def keys_at(kind: Any, path: Sequence[str | int]) -> list[str]:
    """The fields of the model at `path` inside the model `kind`."""
    for part in path:
        if part in kind.model_fields:  # numbers are places in a list
            kind = model_in(kind.model_fields[part].annotation)
    return list(kind.model_fields)


def model_in(annotation: Any) -> Any:
    """The model inside an annotation such as `list[Model]` or `Model | None`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((found for inner in get_args(annotation) if (found := model_in(inner))), None)
