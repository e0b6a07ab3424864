"""The distillation losses beside their NumPy twins."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from compress.losses import attention_loss, dist, kl, squared, standardized, with_stages
from models.resnet import ResNet
from tests.compress.parts import TINY

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 5, 7)) * 3
MAPS = [RNG.normal(size=(2, channels, 3, 4)) for channels in (6, 6, 9)]


def kl_twin(student: np.ndarray, teacher: np.ndarray, t: float) -> float:
    p = softmax(teacher / t, axis=1)
    return float(t**2 * (p * (np.log(p) - log_softmax(student / t, axis=1))).sum(axis=1).mean())


def dist_twin(student: np.ndarray, teacher: np.ndarray, t: float) -> float:
    p, q = softmax(student / t, axis=1), softmax(teacher / t, axis=1)
    images = [np.corrcoef(p[i], q[i])[0, 1] for i in range(len(p))]
    classes = [np.corrcoef(p[:, j], q[:, j])[0, 1] for j in range(p.shape[1])]
    return float(t**2 * ((1 - np.mean(images)) + (1 - np.mean(classes))))


def z_scores(logits: np.ndarray) -> np.ndarray:
    return np.stack([(row - row.mean()) / row.std() for row in logits])


def attention_twin(student: np.ndarray, teacher: np.ndarray) -> float:
    apart = []
    for mine, its in zip(student, teacher, strict=True):
        a, b = ((x**2).mean(axis=0).ravel() for x in (mine, its))
        apart.append(((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum())
    return float(np.mean(apart))


@pytest.mark.parametrize(("loss", "twin"), [(kl, kl_twin), (dist, dist_twin)])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_losses_of_answers_equal_numpy(loss, twin, temperature: float) -> None:  # type: ignore[no-untyped-def]
    student, teacher = torch.tensor(STUDENT), torch.tensor(TEACHER)
    assert float(loss(student, teacher, temperature)) == pytest.approx(twin(STUDENT, TEACHER, temperature), rel=1e-4)
    z = standardized(student), standardized(teacher)
    expected = twin(z_scores(STUDENT), z_scores(TEACHER), temperature)
    assert float(loss(*z, temperature)) == pytest.approx(expected, rel=1e-4)
    assert abs(float(loss(teacher, teacher, temperature))) < 1e-5


def test_squared_logits_are_the_limit_of_kl_at_high_temperatures() -> None:
    centred = [torch.tensor(logits - logits.mean(axis=1, keepdims=True)) for logits in (STUDENT, TEACHER)]
    assert float(squared(*centred)) == pytest.approx(kl_twin(*(each.numpy() for each in centred), 1e4), rel=1e-2)
    assert float(squared(torch.tensor(STUDENT), torch.tensor(TEACHER))) == pytest.approx(((STUDENT - TEACHER) ** 2).mean() / 2)


def test_what_a_loss_does_not_mind() -> None:
    teacher = torch.tensor(TEACHER)
    assert abs(float(kl(standardized(3 * teacher + 2), standardized(teacher), 2.0))) < 1e-5  # scale and mean of the logits
    assert float(kl(3 * teacher, teacher, 2.0)) > 0.1
    p = softmax(TEACHER, axis=1)
    milder = torch.tensor(np.log(0.5 * p + 0.5 / 7))  # the same order, less sure: correlations of 1
    assert abs(float(dist(milder, teacher, 1.0))) < 1e-5
    assert float(kl(milder, teacher, 1.0)) > 0.1


@pytest.mark.parametrize("loss", [kl, dist])
@pytest.mark.parametrize(
    "logits", [torch.zeros(4, 7), torch.zeros(1, 7), torch.tensor(STUDENT[:1]), 1e4 * torch.tensor(STUDENT)]
)
def test_gradients_stay_finite_where_nothing_varies(loss, logits: Tensor) -> None:  # type: ignore[no-untyped-def]
    for prepare in (standardized, Tensor.float):
        student = logits.clone().requires_grad_()
        loss(prepare(student), prepare(torch.tensor(TEACHER[: len(logits)])), 2.0).backward()
        assert student.grad is not None and torch.isfinite(student.grad).all()


def test_attention_equals_numpy_whatever_the_widths() -> None:
    mine, its, wider = MAPS
    tensors = [torch.tensor(x) for x in MAPS]
    assert float(attention_loss([tensors[0]], [tensors[1]])) == pytest.approx(attention_twin(mine, its), rel=1e-4)
    both = (attention_twin(mine, its) + attention_twin(mine, wider)) / 2
    assert float(attention_loss([tensors[0]] * 2, tensors[1:])) == pytest.approx(both, rel=1e-4)
    assert float(attention_loss(tensors, tensors)) == 0
    assert abs(float(attention_loss([5 * tensors[0]], [tensors[0]]))) < 1e-6  # where, not how much


def test_stages_are_looked_at_without_a_trace() -> None:
    torch.manual_seed(0)
    network, x = ResNet(TINY).eval(), torch.randn(2, 1, 32, 32)
    logits, stages = with_stages(network, x)
    assert torch.equal(logits, network(x))
    assert [list(stage.shape) for stage in stages] == [[2, 8, 8, 8], [2, 8, 4, 4]]
    last = network.layer2(stages[0])
    torch.testing.assert_close(last, stages[1])
    assert not any(module._forward_hooks for module in network.modules())
