"""The networks for CIFAR: a checkpoint named as in akamaster/pytorch_resnet_cifar10 computes what that network computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compress.train import Train
from core.config import read
from models.blocks import Padding
from models.checkpoint import load, save, untrained
from models.resnet import ResNet, Shortcuts, Spec, family_spec, initialise
from tests.models.narrow import read_user_checkpoint

State = dict[str, Tensor]


def narrow(arch: str, shortcut: Shortcuts = "padding") -> Spec:
    spec = family_spec(arch, num_classes=5, shortcut=shortcut)
    widths = tuple(tuple(tuple(width // 4 for width in block) for block in stage) for stage in spec.widths)
    return spec.model_copy(update={"stem_width": 4, "widths": widths})


def weights(spec: Spec) -> State:
    torch.manual_seed(0)
    state = ResNet(spec).state_dict()
    for name, tensor in state.items():
        if name.endswith(("bn1.weight", "bn2.weight", "running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    return state


def published(state: State, shortcut: str = "shortcut") -> dict[str, object]:
    """`state` as the training scripts save it."""
    names = {name: name.replace("fc.", "linear.").replace("downsample", shortcut) for name in state}
    return {"state_dict": {f"module.{names[name]}": t for name, t in state.items()}, "best_prec1": 91.73}


def logits(state: State, depth: int, x: Tensor) -> Tensor:
    """The network of the paper, option A, written with functions only."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        x = functional.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=1)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return functional.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"])

    x = layer(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for i in range(depth):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            out = layer(x, f"{name}.conv1", f"{name}.bn1", stride).relu()
            out = layer(out, f"{name}.conv2", f"{name}.bn2")
            if stride == 2:
                zeros = torch.zeros(len(x), out.shape[1] // 4, *out.shape[2:])
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
            x = (out + x).relu()
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(("arch", "depth"), [("resnet20", 3), ("resnet32", 5)])
@pytest.mark.parametrize("side", [12, 9])
def test_a_published_checkpoint_computes_what_the_paper_describes(arch: str, depth: int, side: int, tmp_path: Path) -> None:
    spec = narrow(arch)
    state = weights(spec)
    torch.save(published(state), tmp_path / "a.pth")
    network, found, notes = read_user_checkpoint(tmp_path / "a.pth", arch)
    assert found == spec and found.stem == "small" and found.shortcut == "padding"
    assert any("option A" in note for note in notes)
    x = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), logits(state, depth, x))


def test_a_checkpoint_of_another_depth_is_refused(tmp_path: Path) -> None:
    torch.save(published(weights(family_spec("resnet20", num_classes=5))), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="this is a resnet20, 5 classes; MODEL says resnet56: pass MODEL=resnet20"):
        read_user_checkpoint(tmp_path / "a.pth", "resnet56")


@pytest.mark.parametrize("name", ["downsample", "shortcut"])
def test_projected_shortcuts_are_read_from_the_weights(name: str, tmp_path: Path) -> None:
    spec = narrow("resnet20", "projection")
    torch.save(published(weights(spec), name), tmp_path / "a.pth")
    assert read_user_checkpoint(tmp_path / "a.pth", "resnet20")[1] == spec


@pytest.mark.parametrize("shortcut", ["padding", "projection", "none"])
def test_it_is_saved_and_rebuilt_with_its_shortcuts(shortcut: Shortcuts, tmp_path: Path) -> None:
    spec = narrow("resnet20", shortcut)
    network = ResNet(spec).eval()
    save(network, spec, tmp_path)
    again, found = load(tmp_path)
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        assert found == spec and torch.equal(again(x), network(x))


def test_a_plain_network_has_the_layers_of_a_residual_one_and_computes_them_one_after_the_other() -> None:
    spec = narrow("resnet20", "none")
    state = weights(spec)
    assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in weights(narrow("resnet20")).items()}
    network = ResNet(spec).eval()
    network.load_state_dict(state)
    x = torch.randn(2, 3, 12, 12)
    with torch.inference_mode():
        expected = network.bn1(network.conv1(x)).relu()
        for stage in (network.layer1, network.layer2, network.layer3):
            for block in stage:
                expected = block.bn2(block.conv2(block.bn1(block.conv1(expected)).relu())).relu()
        torch.testing.assert_close(network(x), network.fc(expected.mean((2, 3))))


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("shortcut", ["none", "padding"])
def test_the_blocks_of_a_plain_network_never_start_as_the_identity(shortcut: Shortcuts, identity: bool) -> None:
    network = ResNet(narrow("resnet20", shortcut))
    initialise(network, identity)
    gains = [network.get_parameter(f"layer{stage}.0.bn2.weight") for stage in (1, 2, 3)]
    assert all(gain.any() != (identity and shortcut == "padding") for gain in gains)


def test_only_basic_blocks_can_be_without_shortcuts_and_the_pipeline_trains_none() -> None:
    assert family_spec("resnet34", shortcut="none").stem == "imagenet"
    with pytest.raises(ValueError, match="resnet50 has bottleneck blocks; expected basic blocks, such as resnet18's"):
        family_spec("resnet50", shortcut="none")
    with pytest.raises(ValueError, match=r"train\.shortcut = 'none': input should be 'projection' or 'padding'"):
        read(Train, {"shortcut": "none"}, "train.")


def test_padding_takes_every_second_pixel_and_puts_half_of_the_zeros_before() -> None:
    x = torch.arange(1.0, 19.0).view(1, 2, 3, 3)
    out = Padding(2, 3)(x)
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 1].tolist() == [[1, 3], [7, 9]] and not out[0, [0, 3, 4]].any()


def test_shortcuts_and_stem_are_the_members_own_unless_given() -> None:
    _, spec = untrained("resnet20", 5, 3)
    assert isinstance(spec, Spec) and (spec.stem, spec.shortcut, spec.stem_width) == ("small", "padding", 16)
    _, spec = untrained("resnet20", 5, 3, "imagenet", "projection")
    assert isinstance(spec, Spec) and (spec.stem, spec.shortcut) == ("imagenet", "projection")
    with pytest.raises(ValueError, match="resnet18 has no shortcuts that pad; expected shortcut 'projection', or one of res"):
        untrained("resnet18", 5, 3, shortcut="padding")
