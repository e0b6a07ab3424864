"""Blocks that do nothing are dropped first; the shapes that the network needs stay."""

from pathlib import Path
from typing import Any

import pytest
import torch

import compress.drop_blocks as drop_blocks_module
from compress.budget import OutOfReach
from compress.drop_blocks import DropBlocks, drop_blocks, droppable
from compress.fewer import Fewer, fewer
from compress.prune import Prune
from models.checkpoint import load, save, untrained
from models.cost import cost
from models.resnet import ResNet, Spec, blocks_of, family_spec
from tests.compress.parts import part_of, tiny
from tests.conftest import Small

SHAPE = (1, 32, 32)


def narrow(arch: str, depths: tuple[int, ...], width: int = 8) -> Spec:
    """The member `arch` with `depths` blocks of few channels."""
    spec = family_spec(arch, num_classes=10, in_channels=1)
    block = {"basic": (width,) * 2, "bottleneck": (width, width, 4 * width), "split": (4 * width, *[width] * 3, 4 * width)}
    widths = tuple((block[spec.block],) * depth for depth in depths)
    return spec.model_copy(update={"widths": widths, "stem_width": width, "shortcut": "projection"})


@pytest.fixture(scope="module")
def images(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return part_of(small.images, tmp_path_factory.mktemp("blocks") / "images", train=64, val=64)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnetv2_50", "res2net50_26w_4s", "resnet20"])
def test_blocks_that_do_nothing_go_first_and_the_predictions_stay(arch: str, images: Path, tmp_path: Path) -> None:
    model = tiny(tmp_path / "model", narrow(arch, (3, 3)))
    network, spec = load(model)
    assert isinstance(network, ResNet)
    network.eval()
    idle = [blocks_of(network)[0][1], blocks_of(network)[1][2]]
    for block in idle:
        block.zero()
    save(network, spec, model)
    x = torch.rand(4, *SHAPE)
    before = cost(network, SHAPE)["macs"]
    for block in idle:
        block.skipped = True
    share = 1 - cost(network, SHAPE)["macs"] / before
    (tmp_path / "out").mkdir()
    config = DropBlocks(removed=share, images=8, norm_images=64)
    found = drop_blocks(config, tmp_path / "out", model=model, images=images)
    assert found["kept_blocks"] == [[0, 2], [0, 1]]
    assert found["after"]["macs"] == pytest.approx(before * (1 - share))
    shallow, _ = load(tmp_path / "out")
    shallow.load_state_dict(renamed(network, found["kept_blocks"]))  # without the new batch-norm statistics
    torch.testing.assert_close(shallow.eval()(x), network(x))


def renamed(network: ResNet, kept: list[list[int]]) -> dict[str, torch.Tensor]:
    """The weights of `network` under the names that they have in a network with only the blocks `kept`."""
    new = {f"layer{s + 1}.{old}.": f"layer{s + 1}.{i}." for s, keep in enumerate(kept) for i, old in enumerate(keep)}
    gone = [f"layer{s + 1}.{i}." for s, stage in enumerate(blocks_of(network)) for i in range(len(stage))]
    found = {}
    for name, value in network.state_dict().items():
        start = next((block for block in gone if name.startswith(block)), "")
        if not start:
            found[name] = value
        elif start in new:
            found[new[start] + name.removeprefix(start)] = value
    return found


def test_a_block_that_changes_the_shape_stays_and_so_does_one_of_every_stage() -> None:
    plain = ResNet(narrow("resnet18", (2, 2)))
    assert droppable(plain) == [blocks_of(plain)[0][1], blocks_of(plain)[1][1]]
    padded = ResNet(family_spec("resnet20"))
    assert len(droppable(padded)) == 6
    bottlenecks = ResNet(narrow("resnet50", (2, 3)))
    assert len(droppable(bottlenecks)) == 3


def test_more_than_all_blocks_cannot_go(images: Path, tmp_path: Path) -> None:
    model = tiny(tmp_path / "model", narrow("resnet18", (2, 2)))
    with pytest.raises(OutOfReach, match=r"the blocks of resnet18 that can be dropped have less than 90\.0% of its MACs"):
        drop_blocks(DropBlocks(removed=0.9), tmp_path, model=model, images=images)


def test_the_blocks_of_a_network_of_the_users_are_not_known(images: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    save(*untrained("tests.compress.parts:own_network", 10, 1), tmp_path / "own")
    with pytest.raises(OutOfReach, match="is not of the ResNet family, and only its blocks can be dropped"):
        drop_blocks(DropBlocks(removed=0.5), tmp_path, model=tmp_path / "own", images=images)
    assert compared(images, tmp_path / "own", blocks=1.0) == {"fewer": "channels"}


def compared(images: Path, model: Path, blocks: float, channels: float = 1.0) -> dict[str, Any]:
    """What `fewer` finds where engines with fewer channels and with fewer blocks have these latencies."""
    macs = []

    def trial(networks: list[ResNet], target: str, **_: Any) -> list[dict[str, float]]:
        macs.extend(cost(network, SHAPE)["macs"] for network in networks)
        return [{"p50": p50} for p50 in (2.0, channels, blocks)]

    found = fewer(Fewer(target="onnxruntime"), model, model=model, images=images, baseline=model, trial=trial)
    if macs:
        assert macs[1] == pytest.approx(macs[0] * (1 - found["removed"]), rel=0.25)
        assert macs[2] == pytest.approx(macs[0] * (1 - found["removed"]))
    return found


@pytest.mark.parametrize(("blocks", "first"), [(0.8, "blocks"), (0.95, "channels"), (1.5, "channels")])
def test_blocks_go_where_that_is_clearly_quicker(images: Path, tmp_path: Path, blocks: float, first: str) -> None:
    model = tiny(tmp_path / "model", narrow("resnet18", (4, 4), width=64))
    found = compared(images, model, blocks)
    assert found["fewer"] == first and 0.4 < found["removed"] <= 0.5
    assert found["p50"] == {"all": 2.0, "channels": 1.0, "blocks": blocks}


def test_blocks_go_where_channels_cannot(images: Path, tmp_path: Path) -> None:
    model = tiny(tmp_path / "model", narrow("res2net50_26w_4s", (4, 4)))
    config = Fewer(target="onnxruntime", prune=Prune(residual=False))
    found = fewer(config, model, model=model, images=images, baseline=model, trial=lambda *_, **__: [])
    assert found == {"fewer": "blocks"}


def test_a_network_without_blocks_that_can_go_loses_channels(images: Path, tmp_path: Path) -> None:
    assert compared(images, tiny(tmp_path / "model"), blocks=0.1) == {"fewer": "channels"}


@pytest.mark.parametrize(("removed", "left"), [(0.55, 3), (0.45, 4), (0.25, 5), (0.2, 6), (0.05, 6)])
def test_the_nearest_number_of_blocks_goes_but_one_at_least(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: float, left: int
) -> None:
    monkeypatch.setattr(drop_blocks_module, "ROUNDS", 2)
    model, out = tiny(tmp_path / "model", narrow("resnet20", (7,))), tmp_path / "out"
    out.mkdir()
    found = drop_blocks(DropBlocks(removed=removed, images=8, norm_images=64), out, model=model, images=images)
    assert len(found["kept_blocks"][0]) == left
