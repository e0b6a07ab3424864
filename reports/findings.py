"""Rows and gate verdict -> findings in plain words, above all those that a table of good numbers would hide."""

from collections.abc import Iterator

from measure.verdict import ClassLoss
from reports.schema import GateResult, Row

MOSTLY = 0.9
MOST_CLASSES = 5
UNLABELLED = (
    "The images have no labels, so nothing here is an accuracy: the gate compares each engine's answers with those of the FP32 "
    "baseline on the same target. Agreement says nothing about how often both are wrong."
)


def findings(rows: list[Row], gate: GateResult) -> list[str]:
    """One sentence or two per finding: what concerns all rows, then in the order of the rows."""
    general = [UNLABELLED] if gate.metric == "agreement" else []
    return general + [
        note
        for row in rows
        for note in (
            *verdict_notes(row, gate),
            *unmeasured_notes(row, gate),
            *speed_notes(row, rows),
            *size_notes(row, rows),
            *share_notes(row),
        )
    ]


def plainly_int8(row: Row) -> bool:
    """Whether it is an INT8 engine that no rung of the ladder made."""
    return row.network == "student" and row.name.form == "int8"


def plain_of(row: Row, rows: list[Row]) -> Row | None:
    """FP32 of the same network on the same target: the baseline where nothing was pruned, which leaves no student in FP32."""
    found = {
        (other.network, other.variant): other for other in rows if other.target == row.target and other.precision == "fp32"
    }
    return found.get(("student", row.variant), found.get(("baseline", None)))


def half_of(row: Row, rows: list[Row]) -> Row | None:
    """16-bit floats of the same network on the same target, where it computes in them."""
    alike = (other for other in rows if (other.target, other.variant) == (row.target, row.variant))
    return next((other for other in alike if other.precision in ("fp16", "bf16")), None)


def verdict_notes(row: Row, gate: GateResult) -> Iterator[str]:
    if row.drop is None or row.id not in {entry.id for entry in gate.rows}:
        return
    drop = row.drop
    lost = "points of top-1 lost"
    if gate.metric == "agreement":
        lost = "points of agreement with the FP32 baseline lost (not of accuracy)"
    found = (
        f"{drop.points:+.2f} {lost}, 95 % upper limit {drop.upper_95:+.2f}, on {drop.n:,} images; "
        f"the limit is {gate.max_drop:g}"
    )
    agreed = gate.metric == "agreement"
    if drop.failed_classes:
        yield f"{row.id} fails the gate and does not ship: {class_text(drop.failed_classes, agreed)}; {found}."
    elif drop.verdict == "fail":
        yield f"{row.id} fails the gate and does not ship: {found}."
    if suspicious := [entry for entry in drop.classes if entry.verdict == "suspicious"]:
        yield (
            f"{row.id} may have lost more of a class than the gate allows, but there are too few images to be sure: "
            f"{class_text(suspicious, agreed)}."
        )
    if drop.verdict == "inconclusive":
        settle = (
            f"About {drop.needed:,} images at the same rates would settle it."
            if drop.needed
            else "No practical number of images would settle it at these rates."
        )
        yield f"{row.id} is inconclusive: {found}. {settle}"


def class_text(classes: list[ClassLoss], agreement: bool) -> str:
    """ "class defect: recall 100.0 % -> 0.0 % (8 images)"; of many classes, those that lost most."""
    worst = sorted(classes, key=lambda entry: (-entry.points, -entry.n))
    told = [
        f"class {entry.label}: {'agreement' if agreement else 'recall'} {entry.baseline_top1:.1f} % -> "
        f"{entry.top1:.1f} % ({entry.n:,} image{'s' * (entry.n != 1)})"
        for entry in worst[:MOST_CLASSES]
    ]
    return ", ".join(told) + f" and {len(worst) - MOST_CLASSES:,} more classes" * (len(worst) > MOST_CLASSES)


def unmeasured_notes(row: Row, gate: GateResult) -> Iterator[str]:
    if row.status == "unavailable":
        yield f"{row.id} could not be built here: {row.reason}"
    if row.status == "unavailable" and row.ships:
        yield f"bundle/{row.target} is ready to be built on the device: run build.sh there; it measures and verifies, too."
    if row.status == "built" and row.ships:
        strict = " STRICT counts it as inconclusive." if gate.strict else ""
        judged = "accuracy" if gate.metric == "top1" else "agreement with the FP32 baseline"
        yield (
            f"{row.id} was built but not measured here ({row.reason}); its {judged} and speed are unknown: "
            f"run verify.py of its bundle on the device.{strict}"
        )


def speed_notes(row: Row, rows: list[Row]) -> Iterator[str]:
    """INT8 is there to be faster than the same network in floats; where it is not, floats may make the better engine."""
    if not plainly_int8(row):
        return
    for other in (plain_of(row, rows), half_of(row, rows)):
        slow, fast = row.latency_ms, other and other.latency_ms
        if other and slow and fast and slow.p50 >= fast.p50:
            ships = "; that engine ships" if other.ships else ""
            yield (
                f"INT8 is not faster than {other.precision.upper()} of the same network on {row.target}: "
                f"{slow.p50:.2f} ms against {fast.p50:.2f} ms (p50, batch {slow.batch}, n={slow.n:,}){ships}."
            )


def size_notes(row: Row, rows: list[Row]) -> Iterator[str]:
    """Engines hold programs besides weights: of a small network, INT8 can be the larger file."""
    plain = plain_of(row, rows)
    if not plainly_int8(row) or plain is None:
        return
    if row.size_bytes and plain.size_bytes and row.size_bytes >= plain.size_bytes:
        yield (
            f"INT8 is not smaller than FP32 of the same network on {row.target}: "
            f"{row.size_bytes / 1e6:.2f} MB against {plain.size_bytes / 1e6:.2f} MB."
        )


def share_notes(row: Row) -> Iterator[str]:
    if plainly_int8(row) and row.int8_share is not None and row.int8_share < MOSTLY:
        yield f"Only {100 * row.int8_share:.0f} % of the conv and gemm MACs of {row.id} execute in INT8."
