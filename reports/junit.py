"""A report -> junit.xml for CI systems: a suite per target, a test case per gate.

A case fails where the gate fails. What is inconclusive, unmeasured, prepared or not built is skipped, with the reason. The
names of the cases are the same in every run, so that a CI system can compare runs.
"""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from measure.verdict import Drop, Part, Verdict
from reports.findings import class_text, loss_text, settling
from reports.schema import GateResult, Report, Row, Stage
from reports.summary import Line, lines_of

# What XML 1.0 has no character for, not even an escaped one.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Case(Part):
    """A gate: its verdict, and the figures or the reason in one line."""

    name: str
    verdict: Verdict
    message: str


def junit(report: Report) -> str:
    """The whole file, with the attributes that Jenkins, GitLab and GitHub's actions read.

    Times are the seconds that the stages took when they were executed, which may have been in an earlier run.
    """
    suites = [suite_of(line, report) for line in lines_of(report)]
    seconds = sum(float(suite.attrib["time"]) for suite in suites)
    root = ElementTree.Element("testsuites", name=clean(f"respress {report.model}"), time=f"{seconds:.3f}")
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.attrib[name]) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def suite_of(line: Line, report: Report) -> ElementTree.Element:
    """The time of the target's stages is that of the first case; the other cases use the same predictions."""
    row, cases = line.row, list(cases_of(line, report.gate))
    seconds = sum(stage.seconds for stage in report.stages if of_target(stage, row.on))
    suite = ElementTree.Element(
        "testsuite",
        name=clean(row.on),
        tests=str(len(cases)),
        failures=str(sum(case.verdict == "fail" for case in cases)),
        errors="0",
        skipped=str(sum(case.verdict == "inconclusive" for case in cases)),
        time=f"{seconds:.3f}",
        timestamp=report.created[:19],
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("engine", row.id), ("sha256", row.sha256), ("ships", "yes" if row.ships else "no")):
        if value:
            ElementTree.SubElement(properties, "property", name=name, value=clean(value))
    for i, case in enumerate(cases):
        taken = 0.0 if i else seconds
        element = ElementTree.SubElement(
            suite, "testcase", classname=clean(f"{report.model}.{row.on}"), name=clean(case.name), time=f"{taken:.3f}"
        )
        if case.verdict == "pass":
            ElementTree.SubElement(element, "system-out").text = clean(case.message)
        else:
            ElementTree.SubElement(element, "failure" if case.verdict == "fail" else "skipped", message=clean(case.message))
    return suite


def cases_of(line: Line, gate: GateResult) -> Iterator[Case]:
    """The limits of GATE, the safety net of all classes, and the verdict that counts, to which milder engines contribute."""
    row, agreement = line.row, gate.metric == "agreement"
    if row.drop is None or row.standing is None:
        names = [*gate.limits, *(["classes"] if gate.max_class_drop is not None else []), "engine"]
        yield from (Case(name=name, verdict="inconclusive", message=f"{row.id}: {line.judged}") for name in names)
        return
    for each in row.drop.gates:
        found = f"{row.id}: {loss_text(each, agreement)}"
        found += f". {settling(each)}" if each.verdict == "inconclusive" else ""
        yield Case(name=gate.shown(each.name), verdict=each.verdict, message=found)
    if gate.max_class_drop is not None:
        yield classes_case(row, row.drop, gate)
    yield Case(name="engine", verdict=row.standing, message=f"{row.id}: {line.judged}")


def classes_case(row: Row, drop: Drop, gate: GateResult) -> Case:
    if not drop.classes:
        return Case(
            name="classes",
            verdict="pass",
            message=f"{row.id}: no class lost significantly more than {gate.max_class_drop:g} points",
        )
    text = class_text(drop.failed_classes or drop.classes, gate.metric == "agreement")
    if drop.failed_classes:
        return Case(name="classes", verdict="fail", message=f"{row.id}: {text}; the limit is {gate.max_class_drop:g} points")
    return Case(name="classes", verdict="inconclusive", message=f"{row.id}: too few images to be sure: {text}")


def of_target(stage: Stage, target: str) -> bool:
    """Whether the stage worked for this target: "latency onnxruntime", "predict student-int8/onnxruntime"."""
    return target in re.split("[ /]", stage.name)[1:]


def clean(text: str) -> str:
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
