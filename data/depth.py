"""The number of bits that the pixels of 16-bit images really use: 12-bit values read as 16 bits would be nearly black."""

from collections.abc import Sequence

from data.preprocess import Spec
from data.readable import Facts

DEPTHS = (8, 10, 12, 14, 16)


def with_depth(data: str, spec: Spec, found: Sequence[Facts]) -> tuple[Spec, list[str]]:
    """`spec` with the bit depth of the images if any has more than 8 bits, and a note about it.

    The whole data set has one depth, so that all images keep their brightness: the smallest of DEPTHS that can represent the
    largest value; 0 for floating-point pixels from 0 to 1. If `spec` already has a depth, it is kept.
    """
    deep = [facts for facts in found if facts.largest is not None]
    if not deep:
        return spec, []
    largest = max(facts.largest for facts in deep if facts.largest is not None)
    floating = all(facts.floating for facts in deep)
    depth = 0 if floating and largest <= 1 else next(bits for bits in DEPTHS if largest < 2**bits)
    assumed = "bit_depth" not in spec
    spec = {"bit_depth": depth} | spec
    kind = "floating-point pixels" if floating else "more than 8 bits per pixel"
    note = f"{counted(len(deep), 'image')} of {data} with {kind}: the largest value is {largest:,g}"
    if assumed:
        return spec, [f"{note}, so all are read as {spelled(depth)}; to change this, set data.bit_depth."]
    clipped = f"; larger values become white ({spelled(depth)} are needed)" if depth > spec["bit_depth"] else ""
    return spec, [f"{note}; read as {spelled(spec['bit_depth'])}, as data.bit_depth states{clipped}."]


def spelled(depth: int) -> str:
    return f"{depth} bits (0 … {2**depth - 1:,})" if depth else "values from 0 to 1"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
