"""The stages of a run -> for every artifact the hash of its files, and the artifacts and files that it was made from."""

from collections.abc import Iterator
from typing import Any

from measure.verdict import Part
from reports.schema import Stage

SHORT = 12  # digits of a hash that are shown; report.json has all


class Source(Part):
    """An input of a stage: its name there, the stage that made it (None: a file of the user), and its hash."""

    role: str
    stage: str | None
    content: str


class Made(Part):
    stage: Stage
    sources: list[Source]


def trail(stages: list[Stage]) -> list[Made]:
    makers = {stage.content: stage.name for stage in stages if stage.content}
    return [
        Made(
            stage=stage,
            sources=[Source(role=role, stage=makers.get(content), content=content) for role, content in flat(stage.inputs)],
        )
        for stage in stages
    ]


def flat(inputs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, hash) of every input; a stage may read several artifacts under one name."""
    for name, content in inputs.items():
        if isinstance(content, dict):
            yield from flat(content)
        else:
            yield name, str(content)
