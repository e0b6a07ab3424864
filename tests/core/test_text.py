"""Messages and lists as users see them."""

import json
from typing import Any

import pytest
from pydantic import Field, ValidationError, model_validator

from core import text
from core.config import Config


class Inner(Config):
    size: int = Field(default=1, gt=0)
    kind: str = "RGB"


class Outer(Config):
    inner: Inner = Inner()
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()

    @model_validator(mode="after")
    def small(self) -> "Outer":
        if len(self.many) > 2:
            raise ValueError("many has 3 entries; expected RGB or at most 2")
        return self


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"inner": {"size": -1}}, "inner.size = -1: input should be greater than 0"),
        ({"inner": {"size": "x"}}, "inner.size = 'x': input should be a valid integer, unable to parse string as an integer"),
        ({"wrong": 1}, "unknown key 'wrong'; known keys: inner, maybe, many"),
        ({"inner": {"wrong": 1}}, "unknown key 'inner.wrong'; known keys: size, kind"),
        ({"maybe": {"wrong": 1}}, "unknown key 'maybe.wrong'; known keys: size, kind"),
        ({"many": [{}, {"wrong": 1}]}, "unknown key 'many.1.wrong'; known keys: size, kind"),
        ({"many": [{}, {}, {}]}, "many has 3 entries; expected RGB or at most 2"),
    ],
)
def test_a_validation_error_is_one_line_that_names_key_value_and_problem(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer(**values)
    assert text.problem(caught.value, Outer) == line


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"inner": 3})])
def test_a_file_that_is_something_else_is_one_line(content: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(content)
    line = text.problem(caught.value, Outer)
    assert line and "\n" not in line and not line.startswith(":")


@pytest.mark.parametrize(
    ("message", "whole", "first"),
    [
        ("one", "one", "one"),
        ("\n one\n  two\tthree\n", "one two three", "one"),
        ("", "", "no message"),
    ],
)
def test_messages_become_one_line(message: str, whole: str, first: str) -> None:
    assert text.one_line(RuntimeError(message)) == whole
    assert text.first_line(RuntimeError(message)) == first


@pytest.mark.parametrize(("names", "line"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_lists_end_with_and(names: list[str], line: str) -> None:
    assert text.joined(names) == line


@pytest.mark.parametrize(("names", "line"), [([], ""), (["a", "b"], "a, b"), (["a", "b", "c"], "a, b, …")])
def test_long_lists_are_cut(names: list[str], line: str) -> None:
    assert text.some(names, 2) == line


def test_a_spread_has_its_middle_first() -> None:
    assert text.spread(1.02, 0.956, 1.06) == "1.02 (0.96 … 1.06)"
    assert text.spread(1, -1, 2, "{:+.1f}") == "+1.0 (-1.0 … +2.0)"
