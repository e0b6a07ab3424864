"""Networks as deep as those of the family, with fewer channels: the same graph in a fraction of the time."""

from models.resnet import Spec


def narrow(spec: Spec, by: int = 4) -> Spec:
    """`spec` with its channels divided by `by`; a family member's channels stay multiples of 16 for `by` = 4."""
    widths = tuple(tuple(tuple(width // by for width in block) for block in stage) for stage in spec.widths)
    return spec.model_copy(update={"stem_width": spec.stem_width // by, "widths": widths, "groups": max(1, spec.groups // by)})
