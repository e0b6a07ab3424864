"""MODEL=package.module:factory: any traceable classifier, pruned and rebuilt from the channels of its weights."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils import prune

from compress.cut import cut
from compress.prunable import CannotPrune
from compress.prune import Prune
from models import custom
from models.checkpoint import load, save, untrained
from models.user import read_user
from tests.models.narrow import read_user_checkpoint

NETWORK = '''
import torch
from torch import nn


class Net(nn.Module):
    """A depthwise convolution, an addition and a concatenation: what the family does not have."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.middle = nn.Conv2d(32, 32, 3, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.depthwise(self.stem(x))
        return self.out(torch.flatten(self.pool(torch.cat([x, torch.relu(self.middle(x)) + x], 1)), 1))


def build(num_classes=10, in_chans=3):
    return Net(num_classes, in_chans)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        return x if x.sum() > 0 else -x


class Fixed(nn.Module):
    """Cannot lose channels: its forward counts on 32."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Conv2d(3, 32, 3, 2, 1), nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.first(x).mean((2, 3)).reshape(-1, 2, 16).repeat(1, 1, 2).reshape(-1, 64))


class Normalised(nn.Module):
    """Normalises its images itself."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.register_buffer("mean", torch.full((1, in_channels, 1, 1), 127.5))
        self.register_buffer("std", torch.full((1, in_channels, 1, 1), 63.75))
        self.model = Net(num_classes, in_channels)

    def forward(self, x):
        return self.model((x - self.mean) / self.std)


def normalised(num_classes=10, in_channels=3): return Normalised(num_classes, in_channels)
def number(): return 3
def maps(): return nn.Conv2d(3, 8, 3)
def none(): return nn.Flatten()
def broken(): raise RuntimeError("two\\nlines")
'''


@pytest.fixture(scope="module", autouse=True)
def on_the_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("package")
    (folder / "network_of_a_user.py").write_text(NETWORK)
    sys.path.insert(0, str(folder))


ARCH = "network_of_a_user:build"


def test_it_is_built_with_the_classes_and_channels_of_the_data() -> None:
    model, spec = untrained(ARCH, num_classes=7, in_channels=1)
    assert (spec.num_classes, spec.in_channels) == (7, 1)
    assert model(torch.zeros(2, 1, 40, 40)).shape == (2, 7)


@pytest.mark.parametrize("prefix", ["", "module.", "net.model."])
def test_a_checkpoint_of_it_is_read(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, spec = untrained(ARCH, num_classes=7, in_channels=3)
    torch.save({"state_dict": {f"{prefix}{n}": t for n, t in model.state_dict().items()}}, tmp_path / "a.pth")
    found, found_spec, _ = read_user_checkpoint(tmp_path / "a.pth", ARCH)
    assert found_spec == spec
    x = torch.randn(1, 3, 40, 40)
    assert torch.equal(found(x), model(x))
    torch.save({f"{prefix}stem.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"missing: stem\.1\.weight"):
        read_user_checkpoint(tmp_path / "b.pth", ARCH)


def saved(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


def test_a_network_that_normalises_its_images_gets_pixels(tmp_path: Path) -> None:
    model, _ = untrained("network_of_a_user:normalised", num_classes=7, in_channels=3)
    path = saved({"state_dict": model.state_dict()}, tmp_path)
    given = read_user(path, "network_of_a_user:normalised")
    assert given.prepared == {"mean": [0.0], "std": [1 / 255]}
    assert given.state.keys() == model.state_dict().keys()
    inner = read_user(path, ARCH)
    assert inner.prepared == {"mean": [0.5] * 3, "std": [0.25] * 3}
    assert inner.state.keys() == model.get_submodule("model").state_dict().keys()


@pytest.mark.parametrize(("average", "kept"), [("ema", "ema"), ("other", None)])
def test_one_of_two_networks_is_read(average: str, kept: str | None, tmp_path: Path) -> None:
    one, _ = untrained(ARCH, num_classes=7, in_channels=3)
    two, _ = untrained(ARCH, num_classes=7, in_channels=3)
    path = saved({"one": one.state_dict(), average: two.state_dict()}, tmp_path)
    if kept is None:
        with pytest.raises(ValueError, match=r"holds 2 networks \(one\., other\.\)"):
            read_user(path, ARCH)
    else:
        assert torch.equal(read_user(path, ARCH).state["out.weight"], two.state_dict()["out.weight"])


def test_one_logit_is_refused(tmp_path: Path) -> None:
    model, _ = untrained(ARCH, num_classes=1, in_channels=3)
    with pytest.raises(ValueError, match="has one logit"):
        read_user(saved(model.state_dict(), tmp_path), ARCH)


def test_masks_are_multiplied(tmp_path: Path) -> None:
    model, _ = untrained(ARCH, num_classes=7, in_channels=3)
    prune.l1_unstructured(model.middle, "weight", 0.5)
    read, _, _ = read_user_checkpoint(saved(model.state_dict(), tmp_path), ARCH)
    assert torch.equal(read.state_dict()["middle.weight"], model.middle.weight)


def test_the_cache_notices_changes_anywhere_in_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_a_user"
    package.mkdir()
    for name in ("__init__", "network", "layers"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = custom.source_of("package_of_a_user.network:build")
    (package / "layers.py").write_text("slope = 0.1")
    assert custom.source_of("package_of_a_user.network:build") != before


def test_pruned_it_loads_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, spec = untrained(ARCH, num_classes=7, in_channels=3)
    pruned = cut(model, spec, Prune(pruning_ratio=0.5), (3, 32, 32))
    save(pruned, spec, tmp_path)
    assert load_file(tmp_path / "model.safetensors")["stem.0.weight"].shape[0] == 16
    again, _ = load(tmp_path)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(x), pruned(x))


def test_what_cannot_be_pruned_says_so() -> None:
    model = custom.create("network_of_a_user:Fixed")
    with pytest.raises(CannotPrune, match="torch-pruning cannot take channels from network_of_a_user:Fixed"):
        cut(model, custom.describe("network_of_a_user:Fixed", model), Prune(pruning_ratio=0.5), (3, 32, 32))


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("no.such.package:build", "No module named 'no'"),
        ("sys:exit", "there is no module 'sys'"),
        ("network_of_a_users:build", "there is no module 'network_of_a_users'"),
        ("network_of_a_user:builds", "raised AttributeError"),
        ("network_of_a_user:broken", "raised RuntimeError: two;"),
        ("network_of_a_user:number", "returned a int"),
        ("network_of_a_user:Branching", "cannot be traced by torch.fx"),
        ("network_of_a_user:none", "has no convolution"),
        ("network_of_a_user:maps", "returns [1, 8, 222, 222]; expected logits"),
        ("network_of_a_user:Fixed", "has 10 classes and 3 input channels; the data has 4"),
    ],
)
def test_what_is_no_classifier_is_refused_with_one_line(arch: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        untrained(arch, num_classes=4, in_channels=3)
    assert message in str(caught.value) and "\n" not in str(caught.value)
