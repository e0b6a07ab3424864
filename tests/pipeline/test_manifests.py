"""The manifests of docs/cluster.md have the fields that their kinds have, with the right types; their commands exist.

kubernetes.json has the names, types and required fields of the kinds. No server was used.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pipeline.__main__ import app

PROJECT = Path(__file__).resolve().parents[2]
SCHEMAS: dict[str, Any] = json.loads(Path(__file__).with_name("kubernetes.json").read_text())
PLAIN = {"string": str, "integer": int, "boolean": bool}
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|[KMGTP]i?)?")


def manifests() -> list[dict[str, Any]]:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (PROJECT / "docs/cluster.md").read_text(), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def problems(value: Any, wanted: str, where: str) -> list[str]:
    """What is wrong with `value`, which should be of the type `wanted`: "string", "[string]" (a list), "{string}" (a map), …"""
    if wanted[0] in "[{":
        kind = list if wanted[0] == "[" else dict
        if not isinstance(value, kind):
            return [f"{where} is no {kind.__name__}"]
        parts = enumerate(value) if kind is list else value.items()
        return [problem for key, part in parts for problem in problems(part, wanted[1:-1], f"{where}.{key}")]
    if wanted in PLAIN:
        return [] if type(value) is PLAIN[wanted] else [f"{where} is no {wanted}: {value!r}"]
    schema = SCHEMAS["types"][wanted]
    if schema == "quantity":
        return [] if QUANTITY.fullmatch(str(value)) else [f"{where} is no quantity: {value!r}"]
    if not isinstance(value, dict):
        return [f"{where} has no fields: {value!r}"]
    found = [f"{where} lacks {name}" for name in schema["required"] if name not in value]
    for name, part in value.items():
        if name in schema["fields"]:
            found += problems(part, schema["fields"][name], f"{where}.{name}")
        else:
            found.append(f"{where} has no field {name}")
    return found


def checked(manifest: dict[str, Any]) -> list[str]:
    return problems(manifest, SCHEMAS["kinds"][f"{manifest['apiVersion']} {manifest['kind']}"], manifest["kind"])


def test_the_manifests_have_the_fields_of_their_kinds() -> None:
    assert [manifest["kind"] for manifest in manifests()] == ["Job", "TrainJob"]
    for manifest in manifests():
        assert checked(manifest) == []


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    found: dict[str, Any] = spec.get("trainer") or spec["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: job["spec"].pop("template"), "Job.spec lacks template"),
        (lambda job: job["spec"].update(backofLimit=1), "Job.spec has no field backofLimit"),
        (lambda job: job["spec"].update(backoffLimit="20"), "Job.spec.backoffLimit is no integer: '20'"),
        (lambda job: container(job).update(args="--data=a"), "Job.spec.template.spec.containers.0.args is no list"),
        (lambda job: container(job)["resources"]["limits"].update(memory="32 GB"), "limits.memory is no quantity: '32 GB'"),
    ],
)
def test_a_wrong_manifest_is_found(change: Any, message: str) -> None:
    job = manifests()[0]
    change(job)
    (problem,) = checked(job)
    assert problem.endswith(message)


def test_the_commands_of_the_manifests_exist() -> None:
    for manifest in manifests():
        command = container(manifest)["command"]
        known = get_command(app).commands[command[command.index("compress")]]  # type: ignore[attr-defined]
        flags = {option for parameter in known.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in container(manifest)["args"]} <= flags
