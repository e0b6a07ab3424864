"""The limits of GATE: what an engine lost against each of them, and the verdict.

top1=x           of all images
recall:NAME=x    of the images of one class
worst_class=x    of the images of every class
balanced=x       the mean over the classes

All are percentage points lost against the FP32 baseline on the same images. An engine fails if its drop reaches the limit.
It passes if the 95 % upper limit of its drop is below the limit. Otherwise it is inconclusive. To fail `worst_class`, a class
has to be significantly above the limit.
"""

from collections.abc import Mapping, Sequence

from scipy.special import ndtri  # type: ignore[import-untyped, unused-ignore]

from measure.statistics import holm, p_above
from measure.stratified import Paired, images_to_settle, mean_lower, mean_points, mean_upper, unchanged
from measure.verdict import Drop, GateLoss, Verdict

SIGNIFICANCE = 0.05


def limited(name: str, classes: Sequence[Paired], limit: float, label: str | None = None) -> GateLoss:
    """The mean drop of `classes` (one: its drop) against `limit`; `label` is the class, if it is of one."""
    points, lower, upper = mean_points(classes), mean_lower(classes), mean_upper(classes)
    verdict = verdict_of(points, upper, limit)
    halves = [(each.lost + each.gained) // 2 for each in classes]
    even = mean_upper([Paired(half, half, each.n) for half, each in zip(halves, classes, strict=True)])
    return GateLoss(
        name=name,
        label=label,
        limit=limit,
        points=points,
        lower_95=lower,
        upper_95=upper,
        least_95=mean_upper(unchanged(classes)),
        n=int(sum(each.n for each in classes)),
        verdict=verdict,
        needed=images_to_settle(classes, limit) if verdict == "inconclusive" else None,
        too_few=verdict != "pass" and lower <= limit <= even,
    )


def verdict_of(points: float, upper_95: float, limit: float) -> Verdict:
    if points >= limit:
        return "fail"
    return "pass" if upper_95 < limit else "inconclusive"


def worst_class(classes: Mapping[str, Paired], limit: float) -> GateLoss:
    """Every class against `limit`; the figures are those of the class that decides.

    It passes if the upper limits of all classes are below `limit`. That is an intersection-union test: an engine that reaches
    the limit in any class must pass the test of that class, too, so the chance of a wrong pass is at most 5 % without a
    correction for the number of classes (Berger, Technometrics 24:295, 1982). To fail is the other way around: of many classes,
    one reaches the limit by chance. So it fails only if a class is significantly above the limit after Holm's correction (exact
    test, `p_above`); a class that reaches the limit without that makes it inconclusive. `lower_95` is the largest lower limit
    of all classes, at 95 % for all of them together (Bonferroni).
    """
    found = [limited("worst_class", [counts], limit, label) for label, counts in classes.items()]
    adjusted = holm([p_above(int(each.lost), int(each.gained), int(each.n), limit) for each in classes.values()])
    failed = [each for each, p in zip(found, adjusted, strict=True) if p < SIGNIFICANCE]
    decides = max(failed, key=lambda each: each.points) if failed else max(found, key=lambda each: each.upper_95)
    verdict: Verdict = "fail" if failed else "pass" if decides.upper_95 < limit else "inconclusive"
    z = -float(ndtri(SIGNIFICANCE / len(found)))
    return decides.model_copy(
        update={
            "verdict": verdict,
            "lower_95": max(mean_lower([counts], z) for counts in classes.values()),
            "needed": decides.needed if verdict == "inconclusive" else None,
            "too_few": verdict == "inconclusive" and any(each.too_few for each in found),
        }
    )


def too_few(drop: Drop) -> bool:
    """Whether the images are too few to tell: this drop neither passes nor is surely above a limit, and for one of the limits
    no engine could pass that differs from the baseline on as many images, not even if it gained as many as it lost."""
    surely_fails = bool(drop.failed_classes) or any(each.lower_95 > each.limit for each in drop.gates)
    return drop.verdict != "pass" and not surely_fails and any(each.too_few for each in drop.gates)


def surely_above(drop: Drop, times: float) -> bool:
    """Whether the drop is certainly more than so many `times` one of the limits. On images so few that no engine could pass,
    the drop that is seen counts as certain."""
    return any(
        each.points >= times * each.limit if each.least_95 >= each.limit else each.lower_95 > times * each.limit
        for each in drop.gates
    )


def can_pass(drop: Drop, share: float) -> bool:
    """Whether a `share` of this drop would pass every limit, with an upper limit as far away from it as it is now.

    On images so few that no engine could pass, it only has to be below the limit.
    """
    return all(
        share * each.points + (0.0 if each.least_95 >= each.limit else each.upper_95 - each.points) < each.limit
        for each in drop.gates
    )


def excess(drop: Drop) -> float:
    """By how many points the drop is above its limit, of the gate where that is most."""
    return max(each.points - each.limit for each in drop.gates)
