"""Which channel groups of a user's own network are left whole, because torch-pruning prunes them wrongly."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compress.cut import cut
from compress.prunable import CannotPrune, prunable, unprunable
from compress.prune import Prune, prune
from models import custom
from models.checkpoint import load, rebuilt, save
from models.resnet import ResNet, Shortcuts, family_spec
from tests.compress.parts import part_of
from tests.conftest import Small

NETWORKS = """
import torch
import torch.nn.functional as F
from torch import nn

def layer(a, b, stride=1):
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b))

class Block(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.first, self.second, self.missing, self.stride = layer(a, b, stride), layer(b, b), b - a, stride
    def forward(self, x):
        half = self.missing // 2
        shortcut = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, half, half))
        return F.relu(self.second(F.relu(self.first(x))) + shortcut)

class Padded(nn.Module):
    def __init__(self, flatten, num_classes, in_channels):
        super().__init__()
        self.stem, self.flatten = layer(in_channels, 8), flatten
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.linear = nn.Linear(32, num_classes)
    def forward(self, x):
        x = self.blocks(F.relu(self.stem(x)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.flatten else x.mean((2, 3))
        return self.linear(x)

class Joined(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem, self.left, self.right = layer(in_channels, 8), layer(8, 8), layer(8, 16)
        self.mixed = nn.Conv2d(24, 24, 3, padding=1)
        self.grouped = nn.Conv2d(24, 24, 3, padding=1, groups=4)
        self.scale = nn.Sequential(nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1), nn.Sigmoid())
        self.linear = nn.Linear(24, num_classes)
    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.mixed(torch.cat([self.left(x), self.right(x)], 1)))
        x = F.relu(self.grouped(x))
        return self.linear((x * self.scale(F.adaptive_avg_pool2d(x, 1))).mean((2, 3)))

class Normed(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU())
        self.linear = nn.Linear(8, num_classes)
    def forward(self, x):
        return self.linear(self.body(x).mean((2, 3)))

class Fixed(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(in_channels, 8, 3, 2, 1), nn.Linear(8, num_classes)
    def forward(self, x):
        return self.linear(F.adaptive_avg_pool2d(self.conv(x), 1).reshape(-1, 8))

def padded(num_classes=10, in_channels=1): return Padded(False, num_classes, in_channels)
def flattened(num_classes=10, in_channels=1): return Padded(True, num_classes, in_channels)
def joined(num_classes=10, in_channels=1): return Joined(num_classes, in_channels)
def normed(num_classes=10, in_channels=1): return Normed(num_classes, in_channels)
def fixed(num_classes=10, in_channels=1): return Fixed(num_classes, in_channels)
"""
SHAPE = (1, 16, 16)


@pytest.fixture(scope="module", autouse=True)
def on_the_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "networks_of_users.py").write_text(NETWORKS)
    sys.path.insert(0, str(folder))


def made(name: str) -> tuple[torch.nn.Module, custom.Custom]:
    torch.manual_seed(0)
    network = custom.create(f"networks_of_users:{name}")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean, module.bias.data = torch.randn_like(module.bias), torch.randn_like(module.bias)
    return network, custom.describe(f"networks_of_users:{name}", network)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stay"),
    [("padded", ["stem.0"]), ("flattened", ["stem.0"]), ("joined", []), ("normed", ["body.0"])],
)
def test_only_the_groups_that_cannot_be_pruned_stay_whole(name: str, stay: list[str]) -> None:
    network, spec = made(name)
    assert unprunable(network, spec, Prune(), SHAPE) == stay
    assert not {group.name for group in prunable(network, spec, Prune(), SHAPE)} & set(stay)
    pruned = cut(network, spec, Prune(round_to=2), SHAPE, stay=stay)
    for group in prunable(network, spec, Prune(), SHAPE):
        for layer in group.layers:
            assert pruned.get_parameter(f"{layer}.weight").shape[0] == group.width // 2
    for layer in stay:
        assert pruned.get_parameter(f"{layer}.weight").shape == network.get_parameter(f"{layer}.weight").shape


@pytest.mark.parametrize("shortcut", ["padding", "projection", "none"])
def test_padded_shortcuts_of_the_family_keep_the_residual_stream(shortcut: Shortcuts) -> None:
    spec = family_spec("resnet20", num_classes=5, in_channels=1, shortcut=shortcut)
    pruned = cut(ResNet(spec).eval(), spec, Prune(round_to=4), SHAPE)
    assert isinstance(pruned, ResNet)
    streams = [pruned.get_parameter(f"layer{stage}.1.conv2.weight").shape[:2] for stage in (1, 2, 3)]
    whole = [16, 32, 64] if shortcut == "padding" else [8, 16, 32]
    assert [list(shape) for shape in streams] == [[out, inner] for out, inner in zip(whole, (8, 16, 32), strict=True)]
    x = torch.randn(1, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(rebuilt(pruned, spec)(x), pruned(x))


def dead(network: torch.nn.Module, layer: str) -> Tensor:
    """Half of the filters of `layer`, made to compute nothing; the norm after it too."""
    for name in (layer, layer.removesuffix("0") + "1"):
        for parameter in network.get_submodule(name).parameters():
            parameter.data[::2] = 0
        for buffer in network.get_submodule(name).buffers():
            if buffer.ndim:
                buffer[::2] = 0
    return network.get_parameter(f"{layer}.weight")


def test_pruning_channels_of_zeros_beside_a_padded_shortcut_changes_nothing() -> None:
    network, spec = made("padded")
    for i in range(3):
        dead(network, f"blocks.{i}.first.0")
    stay = unprunable(network, spec, Prune(), SHAPE)
    pruned = cut(network, spec, Prune(round_to=1), SHAPE, stay=stay)
    x = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(pruned(x), network(x))


def test_where_no_group_can_be_pruned_the_reason_is_told() -> None:
    network, spec = made("fixed")
    with pytest.raises(CannotPrune, match="cannot take channels from networks_of_users:fixed \\(RuntimeError: "):
        unprunable(network, spec, Prune(), SHAPE)


@pytest.mark.parametrize(
    ("name", "left_out", "said"),
    [
        ("padded", False, "the channel group of stem.0 cannot be pruned and stayed whole; the others were pruned."),
        ("fixed", True, "The network is quantized as it is, and not trained."),
        ("joined", False, ""),
    ],
)
def test_the_stage_says_what_was_not_pruned(name: str, left_out: bool, said: str, small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", train=64, val=16)
    model, out = tmp_path / "model", tmp_path / "out"
    for folder in (model, out):
        folder.mkdir()
    network, spec = made(name)
    save(network, spec, model)
    found = prune(Prune(round_to=2, norm_images=32), out, model=model, images=images)
    assert found["left_out"] == left_out == (found["after"] == found["before"])
    assert len(found["notes"]) == bool(said) and all(note.endswith(said) for note in found["notes"])
    assert load(out)[0](torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_the_stage_says_that_a_padded_residual_stream_stays_whole(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", train=64, val=16)
    model, out = tmp_path / "model", tmp_path / "out"
    for folder in (model, out):
        folder.mkdir()
    spec = family_spec("resnet20", num_classes=10, in_channels=1)
    spec = spec.model_copy(update={"stem_width": 4, "widths": (((4, 4),), ((8, 8),), ((16, 16),))})
    save(ResNet(spec).eval(), spec, model)
    notes = prune(Prune(round_to=2, norm_images=32), out, model=model, images=images)["notes"]
    assert notes == [
        "resnet20: its shortcuts pad with zero channels, so the residual stream stays whole; only channels inside the blocks "
        "were pruned."
    ]
