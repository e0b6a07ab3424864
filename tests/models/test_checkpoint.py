"""Users' checkpoints: what is read, and the one line that says why something is not."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import load, read_user_checkpoint, save
from models.resnet import ResNet, Spec, family_spec

SPEC = family_spec("resnet18", num_classes=7, in_channels=1)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return ResNet(SPEC).state_dict()


@pytest.mark.parametrize(
    "form", ["plain", "state_dict", "model", "model_ema", "module.", "module._orig_mod.", "half", "safetensors"]
)
def test_the_usual_forms_are_read(form: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.pth")
    content: Any = state
    if form.endswith("."):
        content = {f"{form}{name}": t for name, t in state.items()}
    elif form == "half":
        content = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    elif form in ("state_dict", "model", "model_ema"):
        content = {form: state, "epoch": 3}
    save_file(content, path) if form == "safetensors" else torch.save(content, path)
    model, spec = read_user_checkpoint(path, "resnet18")
    assert spec == SPEC
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-3, atol=1e-3)


def cases(state: dict[str, Tensor], folder: Path) -> dict[str, tuple[Path, str]]:
    def saved(name: str, content: Any) -> Path:
        torch.save(content, folder / name)
        return folder / name

    (folder / "text.pth").write_text("not a checkpoint")
    (folder / "text.safetensors").write_text("not a checkpoint")
    (folder / "model.onnx").write_bytes(b"")
    (folder / "pickle.pth").write_bytes(pickle.dumps(Path("/")))
    missing = {name: t for name, t in state.items() if name != "layer2.0.conv1.weight"}
    shaped = {**state, "layer1.0.conv1.weight": torch.zeros(3, 64, 3, 3)}
    broken = {**state, "conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}
    return {
        "absent": (folder / "absent.pth", "does not exist"),
        "another architecture": (
            saved("r34.pth", ResNet(family_spec("resnet34")).state_dict()),
            "holds resnet34; MODEL says resnet18",
        ),
        "no resnet": (saved("mlp.pth", {"0.weight": torch.zeros(3, 3)}), "no ResNet"),
        "text": (folder / "text.pth", "cannot be read"),
        "text as safetensors": (folder / "text.safetensors", "not a safetensors file"),
        "suffix": (folder / "model.onnx", "expected .pt, .pth or .safetensors"),
        "pickled object": (folder / "pickle.pth", "save it again"),
        "whole module": (saved("module.pth", ResNet(SPEC)), "save it again"),
        "no tensors": (saved("empty.pth", {"epoch": 3}), "holds no state_dict"),
        "missing key": (saved("missing.pth", missing), "missing: layer2.0.conv1.weight"),
        "unexpected key": (saved("more.pth", {**state, "neck.weight": torch.zeros(3)}), "unexpected: neck.weight"),
        "mis-shaped": (saved("shape.pth", shaped), "mis-shaped: layer1.0.conv1.weight"),
        "nan": (saved("nan.pth", broken), "NaN or infinite weights in conv1.weight"),
    }


def test_whatever_cannot_be_read_is_refused_with_one_line(state: dict[str, Tensor], tmp_path: Path) -> None:
    for name, (path, told) in cases(state, tmp_path).items():
        with pytest.raises(ValueError) as caught:
            read_user_checkpoint(path, "resnet18")
        assert told in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_a_pruned_network_is_rebuilt_from_its_widths(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = Spec(
        arch="resnet18", block="basic", stem="small", in_channels=3, num_classes=5, stem_width=24,
        widths=(((16, 24), (48, 24)), ((32, 40),)),
    )  # fmt: skip
    model = ResNet(spec).eval()
    save(model, spec, tmp_path)
    rebuilt, again = load(tmp_path)
    assert again == spec
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(model(x), rebuilt(x))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
