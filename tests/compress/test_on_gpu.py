"""What can be checked of recordings without a GPU: when they are used, and that everything is put back."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress import on_gpu
from compress.on_gpu import quick_on_gpu, record
from models.resnet import ResNet
from tests.compress.parts import TINY

GPU = torch.device("cuda")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes for which a recording was made; it adds 1 to the logits, so that its use is seen."""
    shapes: list[torch.Size] = []

    def recording(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
        shapes.append(x.shape)
        plain = model.forward
        return lambda x: plain(x) + 1

    monkeypatch.setattr(on_gpu, "recording", recording)
    return shapes


def images(count: int) -> Tensor:
    return torch.randn(count, TINY.in_channels, 32, 32)


def test_a_recording_is_made_once_for_a_shape_and_for_the_blocks_that_run(recorded: list[torch.Size]) -> None:
    model = ResNet(TINY).train()
    with quick_on_gpu(model, GPU):
        for count in (4, 4, 6, 6, 4):
            model(images(count))
        assert [shape[0] for shape in recorded] == [4, 6, 4]
        block = next(module for module in model.modules() if hasattr(module, "skipped") and module.downsample is None)
        block.skipped = True
        model(images(4))
        assert len(recorded) == 4


def test_predictions_and_other_networks_are_not_recorded(recorded: list[torch.Size]) -> None:
    model = ResNet(TINY)
    with quick_on_gpu(model, GPU):
        model.eval()(images(2))
        with torch.no_grad():
            model.train()(images(2))
    with quick_on_gpu(nn.Sequential(nn.Flatten()).train(), GPU):
        pass
    with quick_on_gpu(model, GPU, whole_batches=False):
        model.train()(images(2))
    with quick_on_gpu(model, torch.device("cpu")):
        model.train()(images(2))
    assert recorded == []


def test_the_network_and_torch_are_as_before(recorded: list[torch.Size]) -> None:
    model = ResNet(TINY).train()
    before = torch.backends.cudnn.benchmark
    with quick_on_gpu(model, GPU):
        assert torch.backends.cudnn.benchmark and "forward" in vars(model)
        model(images(2))
    assert torch.backends.cudnn.benchmark == before and "forward" not in vars(model)
    x = images(2)
    model.eval()
    assert torch.equal(model(x), type(model).forward(model, x))


def test_a_teacher_is_recorded_where_no_gradients_are_wanted(recorded: list[torch.Size]) -> None:
    teacher = ResNet(TINY).eval().requires_grad_(False)
    x = images(3)
    expected = teacher(x)
    record(teacher, lambda: not torch.is_grad_enabled())
    with torch.no_grad():
        assert torch.allclose(teacher(x), expected + 1)
    assert torch.equal(teacher(x), expected) and len(recorded) == 1


@pytest.mark.parametrize("whole", [True, False])
def test_too_little_memory_is_one_line(whole: bool) -> None:
    model = ResNet(TINY)
    with pytest.raises(ValueError, match=r"memory of the GPU is too small .*accumulate=2"), quick_on_gpu(model, GPU, whole):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
