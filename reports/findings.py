"""Rows and gate verdict -> findings in plain words, above all problems that are easily overlooked in the tables."""

from collections.abc import Iterator

from core.profile import PROFILES, SHORT
from measure.doubts import is_far_better
from measure.verdict import ClassLoss, Doubt, Drop, GateLoss
from reports.schema import GateResult, Row
from reports.speed import is_busy, quicker, quicker_turns

MOSTLY = 0.9
MOST_CLASSES = 5
THEN = {"inconclusive": "is inconclusive", "fail": "fails"}
DOUBTS: dict[Doubt, str] = {
    "one_class": "all images that count are of one class, which does not show whether an engine can distinguish classes",
    "chance": "the FP32 baseline only guesses on these images, so it has no accuracy that an engine could lose",
    "constant": "it predicts the same class for all images that count, as a broken engine would",
    "far_better": "it is far better than its FP32 baseline, and compression does not do that",
}
UNLABELLED = (
    "The images have no labels, so no accuracy is known: the gate compares each engine's predictions with those of the FP32 "
    "baseline on the same target. Agreement does not show how often both are wrong."
)


STAND_IN = (
    "Its figures on the images that choose are those of the same file, computed by ONNX Runtime on this machine and not by the "
    "device"
)


def findings(rows: list[Row], gate: GateResult) -> list[str]:
    """One or two sentences per finding: first those about all rows, then those of each row in order."""
    general = [UNLABELLED] if gate.metric == "agreement" else []
    return general + [
        note
        for row in rows
        for note in (
            *verdict_notes(row, gate),
            *doubt_notes(row),
            *sequence_notes(row, rows),
            *better_notes(row),
            *unmeasured_notes(row, gate),
            *same_kind_notes(row, gate),
            *speed_notes(row, rows),
            *size_notes(row, rows),
            *share_notes(row),
        )
    ]


def plainly_int8(row: Row) -> bool:
    """Whether it is an INT8 engine that was not built by the recovery ladder."""
    return row.network == "student" and row.name.form == "int8"


def plain_of(row: Row, rows: list[Row]) -> Row | None:
    """FP32 of the same network on the same target. If nothing was pruned there is no student in FP32: then the baseline."""
    found = {(other.network, other.variant): other for other in rows if other.on == row.on and other.precision == "fp32"}
    return found.get(("student", row.variant), found.get(("baseline", None)))


def half_of(row: Row, rows: list[Row]) -> Row | None:
    """The same network in 16-bit floats on the same target, if there is such an engine."""
    alike = (other for other in rows if (other.on, other.variant) == (row.on, row.variant))
    return next((other for other in alike if other.precision in ("fp16", "bf16")), None)


def verdict_notes(row: Row, gate: GateResult) -> Iterator[str]:
    if row.drop is None or row.standing is None:
        return
    drop, agreed = row.drop, gate.metric == "agreement"
    texts = {each.name: loss_text(each, agreed) for each in drop.gates}
    reasons = [texts[each.name] for each in drop.gates if each.verdict == "fail"]
    if drop.failed_classes:
        reasons = [class_text(drop.failed_classes, agreed), *(reasons or texts.values())]
    if drop.verdict == "fail":
        yield f"{row.id} fails the gate and does not ship: {'; '.join(reasons)}."
    if suspicious := [entry for entry in drop.classes if entry.verdict == "suspicious"]:
        yield (
            f"{row.id} may have lost more of a class than the gate allows, but there are too few images to be sure: "
            f"{class_text(suspicious, agreed)}."
        )
    for each in drop.gates:
        if drop.verdict == each.verdict == "inconclusive":
            yield f"{row.id} is inconclusive: {texts[each.name]}. {settling(each)}"


def settling(loss: GateLoss) -> str:
    """How many images would decide about an inconclusive loss."""
    of_class = f" of class {loss.label}" if loss.label else ""
    if loss.needed:
        same = "if the rates of lost and gained images stay the same"
        return f"About {loss.needed:,} test images{of_class} would decide it, {same}."
    if loss.points >= loss.limit:
        return f"That may be chance; more test images{of_class} would decide it."
    return "The drop is too close to the limit; more test images will not decide it."


def loss_text(loss: GateLoss, agreement: bool) -> str:
    """What an engine lost against one limit of GATE, in words; of top-1 without its name."""
    measure, whole, note = "recall", "top-1", ""
    if agreement:
        measure, whole, note = "agreement", "agreement with the FP32 baseline", " (not of accuracy)"
    kind = loss.name.partition(":")[0]
    lost = {
        "top1": f"{whole} lost{note}",
        "recall": f"{measure} of class {loss.label} lost{note}",
        "worst_class": f"{measure} of class {loss.label} lost{note}, which decides over all classes",
        "balanced": f"{measure}, the mean over the classes, lost{note}",
    }[kind]
    name = "" if kind == "top1" else f"{loss.name}={loss.limit:g}: "
    return (
        f"{name}{loss.points:+.2f} points of {lost}, 95 % upper limit {loss.upper_95:+.2f}, on {loss.n:,} images; "
        f"the limit is {loss.limit:g}"
    )


def doubts_text(drop: Drop) -> str:
    """Why an engine with this drop cannot pass, even if it lost nothing; "" if it can."""
    return "; ".join(DOUBTS[doubt] for doubt in drop.doubts)


def doubt_notes(row: Row) -> Iterator[str]:
    """A note for each reason why the engine cannot pass, even if it lost nothing. `better_notes` has the one for gains."""
    for doubt in row.drop.doubts if row.drop else []:
        if doubt != "far_better":
            yield f"{row.id} cannot pass: {DOUBTS[doubt]}."


def sequence_notes(row: Row, rows: list[Row]) -> Iterator[str]:
    """A note if a milder engine ships in place of the chosen one, or if the verdict of a milder one counts."""
    if row.standing is None or row.drop is None:
        return
    judged = [other for other in rows if other.on == row.on and other.standing]
    milder = judged[: judged.index(row)]
    instead = next((other for other in milder if other.ships), None)
    if instead:
        yield f"{instead.id} ships instead of {row.id}: it is milder, and was judged before it."
    elif row.standing != row.drop.verdict:
        before = next(other for other in milder if other.standing == row.standing)
        yield (
            f"{row.id} counts as {row.standing}: {before.id}, which is milder and was judged before it, {THEN[row.standing]}. "
            "A harder engine passes only if the milder ones do; else one of several could pass by chance."
        )


def better_notes(row: Row) -> Iterator[str]:
    """A note if the engine is far better than its baseline."""
    for points, upper, where, then in (
        *([(row.drop.points, row.drop.upper_95, "judge", " So it cannot pass.")] if row.drop else []),
        *([(row.chosen_on.drop, row.chosen_on.upper_95, "choose", "")] if row.chosen_on else []),
    ):
        if points is not None and upper is not None and is_far_better(points, upper):
            yield (
                f"{row.id} is {-points:.1f} points better than its FP32 baseline on the images that {where}. Compression does "
                "not do that: something differs that should not, such as the preprocessing, or the baseline was not trained "
                f"to its end.{then}"
            )
            return


def class_text(classes: list[ClassLoss], agreement: bool) -> str:
    """ "class defect: recall 100.0 % -> 0.0 % (8 images)"; of many classes, those that lost most."""
    worst = sorted(classes, key=lambda entry: (-entry.points, -entry.n))
    shown = [
        f"class {entry.label}: {'agreement' if agreement else 'recall'} {entry.baseline_top1:.1f} % -> "
        f"{entry.top1:.1f} % ({entry.n:,} image{'s' * (entry.n != 1)})"
        for entry in worst[:MOST_CLASSES]
    ]
    return ", ".join(shown) + f" and {len(worst) - MOST_CLASSES:,} more classes" * (len(worst) > MOST_CLASSES)


def unmeasured_notes(row: Row, gate: GateResult) -> Iterator[str]:
    if row.status == "unavailable":
        yield f"{row.id} is not available here: {row.reason}"
    if row.status == "prepared":
        yield (
            f"{row.id} is prepared, not built and not judged ({row.reason}). Build bundle/{row.on} on the device: "
            "copy it there and run build.sh, which also measures and verifies."
        )
    if row.status == "built" and row.id in {entry.id for entry in gate.rows}:
        strict = " It does not ship, because STRICT lets nothing ship that is unmeasured." if gate.strict else ""
        judged = "accuracy" if gate.metric == "top1" else "agreement with the FP32 baseline"
        where = "run verify.py of its bundle on the device"
        if row.chosen_on:
            where = f"run `make measure OUT=… DEVICE=…`, or verify.py of its bundle on the device. {STAND_IN}"
            strict = " It fails there and does not ship." if row.standing == "fail" else strict
        yield (f"{row.id} was built but not measured here ({row.reason}); its {judged} and speed are unknown: {where}.{strict}")


def same_kind_notes(row: Row, gate: GateResult) -> Iterator[str]:
    """A note if this machine is a device of the kind that the engine is made for."""
    here = row.status == "measured" and row.chosen_on  # one that was measured over ssh was not chosen on its predictions there
    if here and row.device in (*PROFILES, *SHORT) and row.id in {entry.id for entry in gate.rows}:
        yield f"{row.id} was measured on this machine, which is {row.device}; the times of another one differ."


def speed_notes(row: Row, rows: list[Row]) -> Iterator[str]:
    """A note if INT8 is not faster than the same network in floating point, which may then be the better engine.

    Faster means in 9 of 10 turns. Nothing is said where the machine was busy.
    """
    if not plainly_int8(row) or is_busy(rows, row.on):
        return
    for other in (plain_of(row, rows), half_of(row, rows)):
        slow, fast = row.latency_ms, other and other.latency_ms
        if other and slow and fast and not quicker(slow, fast):
            found = "not faster than" if quicker(fast, slow) or slow.p50 >= fast.p50 else "about as fast as"
            ships = "; that engine ships" if other.ships else ""
            yield (
                f"INT8 is {found} {other.precision.upper()} of the same network on {row.on}: {slow.p50:.2f} ms "
                f"against {fast.p50:.2f} ms (p50, batch {slow.batch}, n={slow.n:,}{quicker_turns(slow, fast)}){ships}."
            )


def size_notes(row: Row, rows: list[Row]) -> Iterator[str]:
    """A note if the INT8 file is not smaller: engines contain code besides weights, which matters for a small network."""
    plain = plain_of(row, rows)
    if not plainly_int8(row) or plain is None:
        return
    if row.size_bytes and plain.size_bytes and row.size_bytes >= plain.size_bytes:
        yield (
            f"INT8 is not smaller than FP32 of the same network on {row.on}: "
            f"{row.size_bytes / 1e6:.2f} MB against {plain.size_bytes / 1e6:.2f} MB."
        )


def share_notes(row: Row) -> Iterator[str]:
    if plainly_int8(row) and row.int8_share is not None and row.int8_share < MOSTLY:
        yield f"Only {100 * row.int8_share:.0f} % of the conv and gemm MACs of {row.id} execute in INT8."
