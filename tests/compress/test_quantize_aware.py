"""Quantization-aware training leaves plain weights behind that load into the same network."""

from pathlib import Path

import pytest
import torch

from compress.quantize_aware import QuantizeAware, quantize_aware, with_fake_quantization
from data.loader import Split
from models.checkpoint import load
from tests.conftest import Small


@pytest.mark.slow
def test_fake_quantization_rounds_and_training_changes_the_weights(small: Small, tmp_path: Path) -> None:
    config = QuantizeAware(epochs=1, batch_size=64, images=64, lr=1e-3)
    metrics = quantize_aware(config, tmp_path, student=small.model, teacher=small.model, images=small.images)
    assert set(metrics["val_top1"]) == {"before", "quantized", "quantized_trained", "after"}
    before, spec = load(small.model)
    after, again = load(tmp_path)
    assert again == spec
    assert after.state_dict().keys() == before.state_dict().keys()
    assert not torch.equal(after.layer1[0].conv1.weight, before.layer1[0].conv1.weight)

    x, _ = Split(small.images, "test").__getitems__(list(range(8)))
    with torch.inference_mode():
        plain = after(x)
        rounded = with_fake_quantization(after, [x])(x)
    difference = (plain - rounded).abs().max() / plain.abs().max()
    assert 1e-4 < difference < 0.2
