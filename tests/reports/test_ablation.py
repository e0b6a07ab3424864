"""The figures of `make ablate`: what is drawn where, and what the table and the sentences say."""

import re
from pathlib import Path

import pytest

from models.resnet import Shortcuts
from reports.ablation import COLUMNS, Curves, Gradients, Trained, error_panels, findings, norm_panels, render_ablation, rows
from reports.axis import of_norms

LAYERS = ["conv1", "layer1.0.conv1", "layer2.0.downsample.0", "fc"]


def one(
    layers: int, shortcut: Shortcuts, last: float, seed: int = 0, norms: tuple[float | None, ...] = (1, 0.1, 9, 1)
) -> Trained:
    return Trained(
        layers=layers, shortcut=shortcut, seed=seed, params=270_000, macs=40_300_000, minutes=1.5, machine="bfloat16 on a CPU",
        loss=[2.0, 1.0, 0.5], train_error=[80.0, last + 5, last - 1], test_error=[90.0, last + 6, last],
        gradients=Gradients(layers=LAYERS, epochs=[list(norms)] * 3),
    )  # fmt: skip


def curves(*trained: Trained, data: str = "cifar10") -> Curves:
    return Curves(data=data, about="All conditions <of> the trainings.", trained=list(trained))


ALL = curves(
    one(56, "none", 12.0), one(56, "padding", 7.0), one(56, "projection", 6.5), one(20, "none", 9.0), one(20, "padding", 8.0),
    one(20, "projection", 8.5),
)  # fmt: skip


def test_panels_are_those_of_the_paper_and_large_errors_of_the_first_epochs_do_not_flatten_them() -> None:
    panels = error_panels(ALL.networks)
    assert [(panel.title, len(panel.legend)) for panel in panels] == [
        ("Plain", 2),
        ("Residual", 2),
        ("Option A and option B", 4),
    ]
    for panel in panels:
        assert panel.down.values[0] == 0 and 24 <= panel.down.values[-1] <= 30, "twice the last error of 12 %"
        for line in panel.lines:
            places = [[float(number) for number in point.split(",")] for point in line.points.split()]
            assert len(places) == 3 and places[0][1] == 0 and places[-1] == [100, places[-1][1]]
    shallow, deep = panels[0].legend
    assert shallow.label == "plain, 20 layers: test error 9.00 %" and deep.label == "plain, 56 layers: test error 12.00 %"
    assert float(deep.points.rpartition(",")[2]) < float(shallow.points.rpartition(",")[2]), "a larger error is higher"
    assert len({line.colour for line in panels[2].legend}) == 4


@pytest.mark.parametrize(
    ("kinds", "titles"), [(("none",), ["Plain"]), (("none", "projection"), ["Plain", "Residual"]), (("padding",), ["Residual"])]
)
def test_only_what_was_trained_is_drawn(kinds: tuple[Shortcuts, ...], titles: list[str]) -> None:
    assert [panel.title for panel in error_panels(curves(*(one(20, kind, 9.0) for kind in kinds)).networks)] == titles


def test_no_network_lacks_a_line_where_there_are_more_than_colours() -> None:
    many = curves(*(one(layers, kind, 9.0) for layers in (20, 32, 44, 56) for kind in ("padding", "projection")))
    assert len(error_panels(many.networks)[-1].legend) == 8


def test_norms_are_drawn_by_layer_without_the_convolutions_of_shortcuts() -> None:
    networks = curves(one(20, "none", 9.0, norms=(0.5, None, 9, 0.02)), one(20, "projection", 9.0)).networks
    (panel,) = norm_panels(networks)
    assert panel.title == "20 layers" and panel.down.values == [0.01, 0.1, 1.0] and panel.across.values[-1] == 20
    assert [(line.label, line.dashed) for line in panel.lines[:2]] == [("plain, 20 layers", True), ("plain, 20 layers", False)]
    middle = panel.lines[0].points.split()[1]
    assert len(panel.lines[0].points.split()) == 3 and middle.endswith(",100.00"), "no gradient: at the bottom"
    assert norm_panels(curves(one(20, "none", 9.0, norms=(0, None, 9, 0))).networks) == []


@pytest.mark.parametrize(
    ("norms", "values"), [([0.02, 3.0], [0.01, 0.1, 1, 10]), ([0.3], [0.1, 1]), ([1.0], [1, 10]), ([1e-6, 1e-5], [1e-6, 1e-5])]
)
def test_the_axis_of_norms_has_powers_of_ten(norms: list[float], values: list[float]) -> None:
    axis = of_norms(norms)
    assert axis.values == values and all(0 <= axis.at(norm) <= 100 for norm in norms)


def test_the_table_has_the_published_error_only_for_the_networks_and_images_of_the_paper() -> None:
    found = rows(ALL)
    assert [row[:2] for row in found] == [
        [kind, layers] for kind in ("plain", "option A", "option B") for layers in ("20", "56")
    ]
    assert [row[6] for row in found] == ["", "", "8.75", "6.97", "", ""] and {len(row) for row in found} == {len(COLUMNS)}
    assert [row[6] for row in rows(curves(one(20, "padding", 9.0), data="mine"))] == [""]
    two = curves(one(20, "padding", 8.0), one(20, "padding", 9.0, seed=1))
    assert [row[4:6] for row in rows(two)] == [["7.50 (7.00 … 8.00)", "8.50 (8.00 … 9.00)"]]


def test_the_sentences_compare_depths_and_shortcuts() -> None:
    assert [re.sub(r" points \(.*?\)", "", text) for text in findings(ALL.networks)] == [
        "Plain, 56 layers instead of 20: training error +3.00, test error +3.00.",
        "Option A, 56 layers instead of 20: training error −1.00, test error −1.00.",
        "Option B, 56 layers instead of 20: training error −2.00, test error −2.00.",
        "20 layers, option A instead of plain: training error −1.00, test error −1.00.",
        "20 layers, option B instead of option A: training error +0.50, test error +0.50.",
        "56 layers, option A instead of plain: training error −5.00, test error −5.00.",
        "56 layers, option B instead of option A: training error −0.50, test error −0.50.",
    ]
    assert "test error +3.00 points (9.00 → 12.00 %)." in findings(ALL.networks)[0]


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    render_ablation(ALL, tmp_path)
    page = (tmp_path / "ablation.html").read_text()
    assert not re.search(r"<script|<link|url\(|://", page) and set(re.findall(r'src="(\w+:)', page)) == {"data:"}
    assert "All conditions &lt;of&gt; the trainings." in page and page.count("<polyline") == 2 * (2 + 2 + 4) + 2 * 6
    assert Curves.model_validate_json((tmp_path / "curves.json").read_text()) == ALL
