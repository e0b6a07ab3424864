"""Trainings of plain and of residual networks -> their curves (curves.json) and figures (ablation.html).

Drawn as in He et al. 2015 (arXiv:1512.03385, figures 1 and 6): the training error dashed, the test error as a line. Several
seeds of a network are drawn as their mean.
"""

from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np

from measure.verdict import Part
from models.resnet import Shortcuts
from reports import numbers
from reports.axis import Axis, of_norms, rounds
from reports.render import environment, write
from reports.training import Norms, norms_of

KINDS: dict[Shortcuts, str] = {"none": "plain", "padding": "option A", "projection": "option B"}
COLOURS = ("--student-fp32", "--fail", "--student-int8", "--student-fp16", "--student-mixed", "--soft")
# Test errors of residual networks with option A on CIFAR-10, in percent: table 6 of the paper (110 layers: the best of five).
PAPER = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43}
CUT = 2.0  # the axis of errors ends at so many times the largest one of the last epochs
COLUMNS = ("network", "layers", "M params", "M MACs", "training error %", "test error %", "He et al., test error %", "minutes")


class Gradients(Part):
    """The content of gradients.json: the norms of all layers, epoch by epoch; None where a layer had no gradient."""

    layers: list[str]
    epochs: list[list[float | None]]


class Trained(Part):
    """One training. Errors are in percent, after every epoch. `machine`: precision and processor, "bfloat16 on NVIDIA T4"."""

    layers: int
    shortcut: Shortcuts
    seed: int
    params: int
    macs: int
    minutes: float
    machine: str
    loss: list[float]
    train_error: list[float]
    test_error: list[float]
    gradients: Gradients


class Network(Part):
    """The trainings of one network, one for each seed."""

    trained: list[Trained]

    @property
    def layers(self) -> int:
        return self.trained[0].layers

    @property
    def shortcut(self) -> Shortcuts:
        return self.trained[0].shortcut

    @property
    def name(self) -> str:
        return f"{KINDS[self.shortcut]}, {self.layers} layers"

    @property
    def train_error(self) -> list[float]:
        return mean([one.train_error for one in self.trained])

    @property
    def test_error(self) -> list[float]:
        return mean([one.test_error for one in self.trained])


class Line(Part):
    """`points` for a polyline in a box of 100 x 100; `colour` is a variable of the style sheet."""

    label: str
    colour: str
    dashed: bool
    points: str


class Panel(Part):
    """One figure: its lines, its axes, and what they show."""

    title: str
    lines: list[Line]
    across: Axis
    down: Axis
    below: str

    @property
    def legend(self) -> list[Line]:
        return [line for line in self.lines if not line.dashed]


class Curves(Part):
    """What curves.json has. `data` is the name of the images, `about` are the conditions of the trainings."""

    data: str
    about: str
    trained: list[Trained]

    @property
    def networks(self) -> list[Network]:
        """By shortcut, then by depth."""
        keys = dict.fromkeys((one.shortcut, one.layers) for one in self.trained)
        order = sorted(keys, key=lambda key: (list(KINDS).index(key[0]), key[1]))
        return [Network(trained=[one for one in self.trained if (one.shortcut, one.layers) == key]) for key in order]


def render_ablation(curves: Curves, out: Path) -> None:
    """Write curves.json and ablation.html into `out`; each appears whole or not at all."""
    write(out / "curves.json", curves.model_dump_json(indent=1) + "\n")
    found = curves.networks
    template = environment().get_template("ablation.html.j2")
    write(
        out / "ablation.html",
        template.render(
            curves=curves, networks=found, findings=findings(found), columns=COLUMNS, rows=rows(curves),
            errors=error_panels(found), norms=norm_panels(found), heats=heats(found),
        ),
    )  # fmt: skip


def mean(values: Sequence[Sequence[float]]) -> list[float]:
    return [float(value) for value in np.mean(values, axis=0)]


def rows(curves: Curves) -> list[list[str]]:
    """The rows of the table: texts, as many as there are `COLUMNS`."""
    return [cells(network, curves.data) for network in curves.networks]


def cells(network: Network, data: str) -> list[str]:
    first = network.trained[0]
    paper = PAPER.get(network.layers) if (data, network.shortcut) == ("cifar10", "padding") else None
    return [
        KINDS[network.shortcut],
        str(network.layers),
        f"{first.params / 1e6:.3f}",
        f"{first.macs / 1e6:.1f}",
        over_seeds([one.train_error[-1] for one in network.trained]),
        over_seeds([one.test_error[-1] for one in network.trained]),
        "" if paper is None else f"{paper:.2f}",
        f"{np.mean([one.minutes for one in network.trained]):.1f}",
    ]


def over_seeds(values: Sequence[float]) -> str:
    """Mean (least … greatest); of one value, the value."""
    text = f"{np.mean(values):.2f}"
    return text if len(values) == 1 else f"{text} ({min(values):.2f} … {max(values):.2f})"


def findings(networks: Sequence[Network]) -> list[str]:
    """What more layers change, with and without shortcuts; then what shortcuts, and option B, change at every depth."""
    deeper = [
        f"{KINDS[one.shortcut]}, {other.layers} layers instead of {one.layers}: {difference(one, other)}."
        for one, other in pairwise(networks)
        if one.shortcut == other.shortcut
    ]
    kinds = [
        f"{layers} layers, {KINDS[other.shortcut]} instead of {KINDS[one.shortcut]}: {difference(one, other)}."
        for layers in sorted({one.layers for one in networks})
        for one, other in pairwise(network for network in networks if network.layers == layers)
    ]
    return [text[0].upper() + text[1:] for text in deeper + kinds]


def difference(one: Network, other: Network) -> str:
    def changed(values: Callable[[Network], list[float]]) -> str:
        before, after = values(one)[-1], values(other)[-1]
        return f"{numbers.signed(after - before)} points ({before:.2f} → {after:.2f} %)"

    return f"training error {changed(lambda n: n.train_error)}, test error {changed(lambda n: n.test_error)}"


def error_panels(networks: Sequence[Network]) -> list[Panel]:
    """The plain networks, the residual ones, and where there are both, those of option A and B: all on the same axes."""
    last = max(max(one.train_error[-1], one.test_error[-1]) for one in networks)
    most = max(max(one.train_error + one.test_error) for one in networks)
    down, across = (Axis(values=rounds(0, end)) for end in (min(most, CUT * last), max(len(n.test_error) for n in networks)))
    plain, *options = ([one for one in networks if one.shortcut == kind] for kind in KINDS)
    residual = options[0] or options[1]
    shown = {"Plain": plain, "Residual": residual, "Option A and option B": options[0] + options[1] if all(options) else []}
    found = []
    for title, these in shown.items():
        lines = []
        for colour, one in zip(cycle(COLOURS), these, strict=False):
            for label, dashed, values in (("training", True, one.train_error), ("test", False, one.test_error)):
                points = points_of(values, across, down)
                text = f"{one.name}: {label} error {values[-1]:.2f} %"
                lines.append(Line(label=text, colour=colour, dashed=dashed, points=points))
        if lines:
            found.append(Panel(title=title, lines=lines, across=across, down=down, below="epoch"))
    return found


def norm_panels(networks: Sequence[Network]) -> list[Panel]:
    """A panel for each depth: the norm of the gradient in every layer, in the first epoch (dashed) and in the last one."""
    norms = {one.name: (norms_by_layer(one, 0), norms_by_layer(one, -1)) for one in networks}
    known = [norm for both in norms.values() for values in both for norm in values if norm > 0]
    if not known:
        return []
    down, found = of_norms(known), []
    for layers in sorted({one.layers for one in networks}):
        across, lines = Axis(values=rounds(0, layers)), []
        for colour, one in zip(cycle(COLOURS), (n for n in networks if n.layers == layers), strict=False):
            for dashed, values in zip((True, False), norms[one.name], strict=True):
                points = points_of([max(norm, down.values[0]) for norm in values], across, down)
                lines.append(Line(label=one.name, colour=colour, dashed=dashed, points=points))
        found.append(Panel(title=f"{layers} layers", lines=lines, across=across, down=down, below="layer, from the image on"))
    return found


def norms_by_layer(network: Network, epoch: int) -> list[float]:
    """The mean norms over the seeds in this epoch, without the convolutions of shortcuts; 0.0 where there was no gradient."""
    recorded = [one.gradients for one in network.trained]
    counted = [i for i, name in enumerate(recorded[0].layers) if ".downsample." not in name]
    return mean([[seed.epochs[epoch][i] or 0.0 for i in counted] for seed in recorded])


def points_of(values: Sequence[float], across: Axis, down: Axis) -> str:
    """The points of a polyline; the first value is at 1."""
    return " ".join(f"{across.at(i):.2f},{100 - down.at(value):.2f}" for i, value in enumerate(values, start=1))


def heats(networks: Sequence[Network]) -> list[tuple[str, Norms]]:
    """Of every network, the norms in all layers and epochs of its first seed."""
    found = [(one.name, norms_of(one.trained[0].gradients.model_dump())) for one in networks]
    return [(name, norms) for name, norms in found if norms]
