"""How respress.compress and respress.load_report refuse bad input. test_readme_runs.py makes a whole run with them."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import respress
from pipeline import api
from pipeline.__main__ import app

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown model": ({"model": "resnet19"}, "known models: resnet18"),
    "unknown target": ({"targets": ["abacus"]}, "known targets: onnxruntime"),
    "unknown key": ({"changes": {"prune.ratio": 0.5}}, "known keys: pruning_ratio"),
    "unknown data": ({"data": "imagenette"}, "expected one of fashion-mnist"),
    "a budget that is none": ({"budget": "latency=4ms"}, "params=10M"),
    "one pruning ratio": ({"sweep": "0.5"}, "expected different pruning ratios"),
    "a stage that does not run again": ({"again": "prune"}, "again='prune': expected latency, or None"),
    "no such recipe": ({"recipe": "none.toml"}, "does not exist"),
    "no such checkpoint": ({"checkpoint": Path("none.pth")}, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_a_value_error_of_one_line(case: str, tmp_path: Path) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refused:
        respress.compress(**{"model": "resnet18", "out": tmp_path, **arguments})
    assert len(str(refused.value).splitlines()) == 1


def test_the_arguments_are_the_flags_with_their_defaults() -> None:
    flags = {flag.opts[0].removeprefix("--").replace("-", "_"): flag for flag in get_command(app).commands["compress"].params}  # type: ignore[attr-defined]
    arguments = dict(inspect.signature(respress.compress).parameters)
    for ours in ("changes", "command"):  # --set and the recipe's keys that have flags; what the report calls the command
        del arguments[ours]
    assert set(arguments) <= set(flags)
    for name, argument in arguments.items():
        if argument.default is not argument.empty:
            assert (argument.default or None) == (flags[name].default or None), name


@pytest.mark.parametrize(
    ("content", "message"), [(None, "does not exist"), ("{}", "respress report"), ("not JSON", "respress report")]
)
def test_load_report_refuses_what_is_no_report(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        respress.load_report(tmp_path)


def test_the_report_names_the_call() -> None:
    arguments = {"model": "resnet50", "checkpoint": Path("a.pth"), "targets": (), "finetune": False, "max_drop": 0.5}
    parameters = inspect.signature(api.compress).parameters
    given = {name: arguments.get(name, parameter.default) for name, parameter in parameters.items()}
    assert api.call_of(api.compress, given) == "respress.compress('resnet50', checkpoint='a.pth', max_drop=0.5, finetune=False)"
