"""Which engines of a search or a SWEEP are on the front, and the notes about them."""

import numpy as np

from measure.gate import drop_of
from reports.schema import ChosenOn, GateResult, Latency, Row
from reports.sweep import searched, sweep_notes, trades, with_front

N = 1000


def row(key: str, p50: float | None, wrong: int, ships: bool = False) -> Row:
    """`wrong` of the 1,000 images that choose; the baseline gets all right and 10 points may be lost."""
    right = np.arange(N) >= wrong
    drop = None if key.startswith("baseline") else drop_of(np.ones(N, bool), right, 10.0)
    engine, _, label = key.partition("[")
    network, precision = engine.split("-")
    return Row(
        id=f"{key}/onnxruntime", network=network, precision=precision, target="onnxruntime", status="measured",
        variant=label.removesuffix("]") or None, ships=ships,
        chosen_on=ChosenOn(top1=float(right.mean() * 100), n=N, drop=drop and drop.points, upper_95=drop and drop.upper_95,
                           verdict=drop and drop.verdict),
        latency_ms=None if p50 is None else Latency(batch=1, threads=2, n=100, p50=p50, p90=p50, p99=p50, mean=p50),
    )  # fmt: skip


ROWS = [
    row("baseline-fp32", 10.0, 0),
    row("student-fp32[0.3]", 3.0, 10),
    row("student-int8[0.3]", 2.0, 20),
    row("student-int8[0.5]", 1.0, 40, ships=True),
    row("student-int8[0.6]", 1.5, 50),  # beaten by 0.5
    row("student-int8[0.9]", 0.5, 200),  # misses the gate
]
GATE = GateResult(max_drop=10.0, strict=False, verdict="pass", rows=[])


def test_what_is_beaten_or_misses_the_gate_is_not_on_the_front() -> None:
    assert [one.name.key for one in with_front(ROWS) if one.front] == ["student-int8[0.3]", "student-int8[0.5]"]


def test_a_run_without_a_sweep_has_no_front_among_its_rows_and_is_drawn() -> None:
    alone = [row("baseline-fp32", 10.0, 0), row("student-int8", 1.0, 40)]
    assert with_front(alone) == alone and not list(sweep_notes(alone, GATE))
    (trade,) = trades(alone)
    assert [dot.label for dot in trade.drawn.wide.dots] == ["baseline-fp32", "int8"]


def test_a_single_engine_is_not_drawn() -> None:
    assert trades([row("baseline-fp32", 10.0, 0), row("student-int8", None, 40)]) == []


def test_the_drawing_has_the_baseline_and_every_candidate() -> None:
    (trade,) = trades(ROWS)
    assert [(dot.label, dot.kind, dot.on_front) for dot in trade.drawn.wide.dots] == [
        ("baseline-fp32", "baseline", False),
        ("int8[0.3]", "pass", True),
        ("int8[0.5]", "pass", True),
        ("int8[0.6]", "pass", False),
        ("int8[0.9]", "fail", False),
    ]


def test_the_note_says_what_ships_and_why() -> None:
    (note,) = sweep_notes(with_front(ROWS), GATE)
    assert "3 of 4 engines do not fail the gate (top1=10) on the images that choose; student-int8[0.5] ships" in note
    assert "more accurate than student-int8[0.3], student-int8[0.5]." in note
    nothing = [one.model_copy(update={"ships": False}) for one in (ROWS[0], ROWS[-1])]
    (note,) = sweep_notes(nothing, GATE)
    assert "0 of 1 engines do not fail" in note and "none ships" in note


def test_the_note_says_that_no_engine_could_run() -> None:
    not_run = row("student-int8[0.3]", None, 0).model_copy(update={"chosen_on": None, "status": "built"})
    (note,) = sweep_notes([not_run], GATE)
    assert note == "SWEEP on onnxruntime: none of the 1 engines could be evaluated here."


SEARCHED = [
    row("baseline-fp32", 10.0, 0),
    row("student-int8[unpruned]", 2.0, 20),
    row("student-int8[50% of MACs]", 1.0, 40, ships=True),
    row("student-int8[35% of MACs]", 0.5, 200),
]


def test_the_note_of_a_search_does_not_speak_of_a_sweep() -> None:
    (note,) = sweep_notes(with_front(SEARCHED), GATE)
    assert note.startswith(
        "The search built 3 engines for onnxruntime. 1 of them loses more accuracy than the gate allows (top1=10); "
        "student-int8[50% of MACs] ships. No engine is both quicker and more accurate than "
    )
    assert searched(SEARCHED) and not searched(ROWS)


def test_a_search_that_found_nothing_is_not_called_a_sweep() -> None:
    alone = [row("student-int8[unpruned]", None, 0).model_copy(update={"chosen_on": None, "status": "built"})]
    assert list(sweep_notes(alone, GATE)) == [
        "The search built 1 engine for onnxruntime. None of them could be evaluated here."
    ]
