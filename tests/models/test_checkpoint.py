"""Users' checkpoints: what is read, and the one line that says why something is not."""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import Load, load, load_checkpoint, load_spec, save
from models.resnet import ResNet, Spec, family_spec
from models.sidecar import family, published
from tests.models.narrow import read_user_checkpoint

SPEC = family_spec("resnet18", num_classes=7, in_channels=1)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return ResNet(SPEC).state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": t for name, t in state.items()}


def cast(state: State, dtype: torch.dtype) -> State:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}


def with_head(state: State, name: str) -> State:
    return {key.replace("fc.", f"{name}."): t for key, t in state.items()}


def beheaded(prefix: str, state: State) -> State:
    return prefixed(prefix, {name: t for name, t in state.items() if not name.startswith("fc.")})


SCRIPT = {
    "epoch": 3,
    "args": argparse.Namespace(lr=0.1),
    "best": np.float64(76.1),
    "optimizer": {"state": {}, "param_groups": []},
}
FORMS: dict[str, Callable[[State], Any]] = {
    "a plain state_dict.pth": lambda s: s,
    "a plain state_dict.pt": lambda s: s,
    "a plain state_dict.pth.tar": lambda s: s,
    "safetensors.safetensors": lambda s: s,
    "state_dict.pth": lambda s: {"state_dict": s, "epoch": 3},
    "model.pth": lambda s: {"model": s},
    "state_dict_ema.pth": lambda s: {"state_dict": {}, "state_dict_ema": s},
    "model_ema of torchvision's script.pth": lambda s: {**SCRIPT, "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.", s)}},
    "model_state_dict.pth": lambda s: {"model_state_dict": s},
    "module. (DataParallel).pth": lambda s: {"state_dict": prefixed("module.", s)},
    "_orig_mod. (torch.compile).pth": lambda s: prefixed("_orig_mod.", s),
    "module._orig_mod..pth": lambda s: prefixed("module._orig_mod.", s),
    "model. (Lightning).ckpt": lambda s: {
        "state_dict": {**prefixed("model.", s), "criterion.weight": torch.ones(7)}, "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 0.1},
    },
    "backbone. with its fc.pth": lambda s: prefixed("backbone.", s),
    "backbone. with head.fc (MMPretrain).pth": lambda s: {**beheaded("backbone.", s), "head.fc.weight": s["fc.weight"], "head.fc.bias": s["fc.bias"]},
    "a Lightning module that calls it net_.pth": lambda s: prefixed("net_.", s),
    "fc.1 behind a dropout.pth": lambda s: with_head(s, "fc.1"),
    "shortcut. and linear. (CIFAR scripts).pth": lambda s: {k.replace("downsample.", "shortcut."): t for k, t in with_head(s, "linear").items()},
    "last_linear.pth": lambda s: with_head(s, "last_linear"),
    "a training script's file with its arguments.pth": lambda s: {**SCRIPT, "state_dict": s},
    "float16.pth": lambda s: cast(s, torch.float16),
    "bfloat16.safetensors": lambda s: cast(s, torch.bfloat16),
    "float64.pth": lambda s: cast(s, torch.float64),
    "without num_batches_tracked.pth": lambda s: {n: t for n, t in s.items() if not n.endswith("num_batches_tracked")},
}  # fmt: skip


def write(content: Any, path: Path) -> Path:
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_the_usual_forms_are_read(form: str, state: State, tmp_path: Path) -> None:
    model, spec, _ = read_user_checkpoint(write(FORMS[form](state), tmp_path / form), "resnet18")
    assert spec == SPEC
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-2, atol=1e-2, check_dtype=name.endswith("weight"))


def test_what_does_not_belong_to_the_network_is_noted(state: State, tmp_path: Path) -> None:
    content = FORMS["model. (Lightning).ckpt"](state)
    _, _, notes = read_user_checkpoint(write(content, tmp_path / "a.ckpt"), "resnet18")
    assert any("criterion.weight" in note for note in notes)


def test_which_of_two_sets_of_weights_was_used_is_noted(state: State, tmp_path: Path) -> None:
    _, _, notes = read_user_checkpoint(write({"model": state, "model_ema": state}, tmp_path / "a.pth"), "resnet18")
    assert notes == ["The checkpoint has model_ema and model: model_ema was used."]


@pytest.mark.parametrize("arch", ["resnext50_32x4d", "wide_resnet50_2", "res2net50_26w_4s", "resnetv2_50", "resnet50"])
def test_relatives_are_distinguished_by_their_weights(arch: str, tmp_path: Path) -> None:
    spec = family_spec(arch, num_classes=3, stem="small")
    path = write(ResNet(spec).state_dict(), tmp_path / "a.pth")
    _, found, notes = read_user_checkpoint(path, arch)
    assert found == spec
    assert any("3x3" in note for note in notes)
    with pytest.raises(ValueError, match=f"this is a {arch}, 3 classes; MODEL says resnet18"):
        read_user_checkpoint(path, "resnet18")


def test_timms_names_of_preactivation_networks_are_read(tmp_path: Path) -> None:
    spec = family_spec("resnetv2_50", num_classes=3)
    torch.manual_seed(0)
    model = ResNet(spec).eval()

    def timms(name: str) -> str:
        first, *rest = name.split(".")
        if first.startswith("layer"):
            block, *rest = rest
            tail = ".".join(rest).replace("bn", "norm").replace("downsample.0", "downsample.conv")
            return f"stages.{int(first[5:]) - 1}.blocks.{block}.{tail}"
        return ".".join([{"conv1": "stem.conv", "fc": "head.fc"}.get(first, first), *rest])

    content = {timms(name): t for name, t in model.state_dict().items()}
    content["head.fc.weight"] = content["head.fc.weight"][:, :, None, None]  # timm's classifier there is a 1x1 convolution
    found, _, _ = read_user_checkpoint(write(content, tmp_path / "a.pth"), "resnetv2_50")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found(x), model(x))


def test_a_pruned_network_is_read_from_a_plain_state_dict(tmp_path: Path) -> None:
    spec = family_spec("resnet18", num_classes=3)
    widths = tuple(tuple((w // 4, out // 2) for w, out in stage) for stage in spec.widths)
    spec = spec.model_copy(update={"widths": widths, "stem_width": 32})
    _, found, notes = read_user_checkpoint(write(ResNet(spec).state_dict(), tmp_path / "a.pth"), "resnet18")
    assert found == spec
    assert any("pruned" in note for note in notes)


def cases(state: State, folder: Path) -> dict[str, tuple[Path, str]]:
    def saved(name: str, content: Any) -> Path:
        return write(content, folder / name)

    def raw(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    missing = {k: t for k, t in state.items() if k != "layer2.0.conv1.weight"}
    shaped = {**state, "layer1.0.conv1.weight": torch.zeros(64, 32, 3, 3)}
    broken = {**state, "conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}
    two = {**with_head(state, "fc.0"), "fc.2.weight": torch.zeros(7, 7), "fc.2.bias": torch.zeros(7)}
    deep = {k.replace("conv1.weight", "conv1.0.weight") if k == "conv1.weight" else k: t for k, t in state.items()}
    return {
        "empty file": (raw("empty.pth", b""), "is empty (0 bytes)"),
        "lfs pointer": (raw("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "git lfs pull"),
        "web page": (raw("page.pth", b"<!DOCTYPE html><title>404</title>"), "web page"),
        "text": (raw("text.pth", b"not a checkpoint"), "(it is no file of tensors from torch.save); save it again"),
        "text as safetensors": (raw("text.safetensors", b"not a checkpoint"), "not a safetensors file"),
        "truncated": (raw("cut.pth", saved("whole.pth", state).read_bytes()[:20000]), "(it seems to be cut off)"),
        "suffix": (raw("model.onnx", b"x"), "is an ONNX model; expected the PyTorch weights it was exported from"),
        "pickled object": (raw("pickle.pth", pickle.dumps(SPEC)), "it holds a pickled models.resnet.Spec); expected tensors by name: save it again"),
        "a list": (saved("list.pth", [torch.zeros(3)]), "holds no state_dict"),
        "no tensors": (saved("none.pth", {"epoch": 3}), "holds no state_dict"),
        "another architecture": (saved("r34.pth", ResNet(family_spec("resnet34")).state_dict()),
                                 "this is a resnet34, 1000 classes; MODEL says resnet18: pass MODEL=resnet34"),
        "no resnet": (saved("mlp.pth", {"0.weight": torch.zeros(3, 3)}), "holds no ResNet (its tensors: 0.weight)"),
        "teacher and student": (saved("two.pth", {**prefixed("student.", {n: t + 1 for n, t in state.items()}), **prefixed("teacher.", state)}), "holds 2 networks (student., teacher.)"),
        "no classifier": (saved("headless.pth", beheaded("", state)), "has no classifier"),
        "classifier of two layers": (saved("mlphead.pth", two), "classifier of 2 layers (fc.0, fc.2)"),
        "deep stem": (saved("deep.pth", deep), "a deep stem (ResNet-C, -D)"),
        "squeeze and excitation": (saved("se.pth", {**state, "layer1.0.se.conv_reduce.weight": torch.zeros(4, 64, 1, 1)}), "squeeze-and-excitation"),
        "group norm": (saved("gn.pth", {k: t for k, t in state.items() if "running" not in k}), "without running statistics"),
        "5x5 stem": (saved("stem.pth", {**state, "conv1.weight": torch.zeros(64, 1, 5, 5)}), "stem of [64, 1, 5, 5]"),
        "five blocks": (saved("deeper.pth", {**state, **{k.replace("layer1.0", "layer1.2"): t for k, t in state.items() if k.startswith("layer1.0")}}), "basic blocks [3, 2, 2, 2]"),
        "missing key": (saved("missing.pth", missing), "missing: layer2.0.conv1.weight"),
        "unexpected key": (saved("more.pth", {**state, "neck.weight": torch.zeros(3)}), "unexpected: neck.weight"),
        "mis-shaped": (saved("shape.pth", shaped), "mis-shaped: layer1.0.conv1.weight [64, 32, 3, 3] for [64, 64, 3, 3]"),
        "nan": (saved("nan.pth", broken), "NaN or infinite weights in conv1.weight"),
        "infinite": (saved("inf.pth", {**state, "fc.bias": torch.full((7,), torch.inf)}), "NaN or infinite weights in fc.bias"),
        "int8 weights": (saved("int8.pth", {**state, "conv1.weight": torch.zeros(64, 1, 7, 7, dtype=torch.int8)}), "weights of another type in conv1.weight (strided int8)"),
        "float8 weights": (saved("fp8.pth", {**state, "fc.weight": state["fc.weight"].to(torch.float8_e4m3fn)}), "(strided float8_e4m3fn)"),
        "sparse weights": (saved("sparse.pth", {**state, "fc.weight": state["fc.weight"].to_sparse()}), "(sparse_coo float32)"),
        "flat classifier": (saved("flat.pth", {**state, "fc.weight": torch.zeros(7)}), "classifier of [7]"),
        "flat convolution": (saved("flatconv.pth", {**state, "layer1.0.conv2.weight": torch.zeros(64)}), "mis-shaped: layer1.0.conv2.weight [64]"),
        "empty convolution": (saved("hollow.pth", {**state, "layer1.0.conv2.weight": torch.zeros(64, 0, 3, 3)}), "mis-shaped: layer1.0.conv2.weight [64, 0, 3, 3]"),
    }  # fmt: skip


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_refused_with_one_line(state: State, tmp_path: Path) -> None:
    for name, (path, message) in cases(state, tmp_path).items():
        with pytest.raises(ValueError) as caught:
            read_user_checkpoint(path, "resnet18")
        assert message in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_what_lies_beside_the_checkpoint_comes_along(state: State, tmp_path: Path) -> None:
    path = write(state, tmp_path / "a.pth")
    (tmp_path / "labels.txt").write_text("é\nb\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(
        '{"pretrained_cfg": {"input_size": [3, 224, 224], "test_input_size": [3, 288, 288], "mean": [0.5], "std": [0.5], '
        '"crop_pct": 0.9, "interpolation": "bicubic"}}'
    )
    out = tmp_path / "out"
    out.mkdir()
    metrics = load_checkpoint(Load(arch="resnet18"), out, checkpoint=path)
    assert metrics["beside"] == ["config.json", "labels.txt"]
    assert (out / "labels.txt").read_text(encoding="utf-8") == "é\nb\n"
    given = json.loads((out / "preprocess.json").read_text())["given"]
    assert given == {"channels": 3, "input_size": 288, "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5], "std": [0.5]}
    (tmp_path / "preprocess.json").write_text('{"resize": "shorter", "resize_size": 40, "input_size": 32}')
    load_checkpoint(Load(arch="resnet18"), out, checkpoint=path)
    given = json.loads((out / "preprocess.json").read_text())["given"]
    assert given == {"resize": 40, "input_size": 32, "exif": "apply"}  # goes before config.json
    for content, message in (
        ("{", "cannot be read as JSON"),
        ("[1]", "contains a list"),
        ('{"means": 1}', "unknown keys means"),
    ):
        (tmp_path / "preprocess.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            load_checkpoint(Load(arch="resnet18"), out, checkpoint=path)


def test_torchvisions_second_generation_is_known_by_its_content_not_its_name() -> None:
    assert family("11ad3fa6" + 56 * "0", "resnet50", "imagenet") == {"resize": 232}
    assert family("0676ba61" + 56 * "0", "resnet50", "imagenet") == {}
    assert family(64 * "0", "resnet18", "small")["input_size"] == 32


def test_the_published_networks_for_cifar_are_known_by_their_content() -> None:
    assert published("4bfd9763" + 56 * "0")["mean"] == [0.485, 0.456, 0.406]  # and not CIFAR-10's own
    assert published(64 * "0") == {}


def test_a_pruned_network_is_rebuilt_from_its_widths(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = Spec(
        arch="resnet18", block="basic", stem="small", in_channels=3, num_classes=5, stem_width=24,
        widths=(((16, 24), (48, 24)), ((32, 40),)),
    )  # fmt: skip
    model = ResNet(spec).eval()
    save(model, spec, tmp_path)
    rebuilt, again = load(tmp_path)
    assert again == spec == load_spec(tmp_path)
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(model(x), rebuilt(x))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
