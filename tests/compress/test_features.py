"""Features are what the classifier reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.device import device_and_precision
from compress.features import Features, features, head_of
from data.loader import Split
from models.checkpoint import load
from models.custom import Custom
from models.resnet import ResNet
from tests.compress.parts import TINY, part_of, tiny
from tests.conftest import Small


@pytest.mark.slow
def test_features_times_the_classifier_are_the_logits(small: Small, tmp_path: Path) -> None:
    images = part_of(small.images, tmp_path / "images", classes=3, val=0)
    out = tmp_path / "out"
    out.mkdir()
    metrics = features(Features(batch_size=10), out, model=small.model, images=images)
    assert [path.name for path in out.iterdir()] == ["features.npz"]
    network, _ = load(small.model)
    device, _ = device_and_precision()
    with np.load(out / "features.npz", allow_pickle=False) as found:
        # nothing is held out here, so there is nothing for val
        assert set(found) == {"train_features", "train_labels", "test_features", "test_labels", "classes"}
        assert found["classes"].tolist() == ["T-shirt/top", "Trouser", "Pullover"]
        for name in ("train", "test"):
            split, array = Split(images, name), found[f"{name}_features"]
            assert metrics[f"{name}_features"] == [len(split), network.fc.in_features]
            assert array.shape == (len(split), network.fc.in_features) and array.dtype == np.float32
            assert found[f"{name}_labels"].dtype == np.int64
            assert np.array_equal(found[f"{name}_labels"], split.labels)
            x, _ = split.__getitems__(list(range(len(split))))
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                logits = network.to(device)(x.to(device)).float().cpu().numpy()
            mine = array @ network.fc.weight.detach().cpu().numpy().T + network.fc.bias.detach().cpu().numpy()
            tolerance = 1e-4 * np.abs(logits).max()
            np.testing.assert_allclose(mine, logits, rtol=0, atol=tolerance)
            assert np.abs(logits - logits.mean(0)).max() > 10 * tolerance  # images differ by more


def test_features_are_computed_in_float32_also_where_training_is_not(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.device.device_and_precision", lambda: (torch.device("cpu"), torch.bfloat16))
    images, model = part_of(small.images, tmp_path / "images", train=20, val=0), tiny(tmp_path / "model")
    features(Features(batch_size=8), tmp_path, model=model, images=images)
    network, _ = load(model)
    network.double().fc = nn.Identity()
    x, _ = Split(images, "train").__getitems__(list(range(20)))
    with torch.inference_mode():
        expected = network(x.double()).numpy()
    with np.load(tmp_path / "features.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(found["train_features"], expected, rtol=1e-4, atol=1e-6)


def test_images_of_other_channels_are_refused(small: Small, tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"in_channels": 3})
    with pytest.raises(ValueError, match="images of 1 channels, the checkpoint reads 3"):
        features(Features(), tmp_path, model=tiny(tmp_path / "model", spec), images=small.images)


def test_the_classifier_is_found_by_its_outputs() -> None:
    network = ResNet(TINY)
    assert head_of(network, TINY) == ("fc", network.fc)
    spec = Custom(arch="my.networks:other", source="", num_classes=10)
    other = nn.Sequential(nn.Linear(4, 10), nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 3)))
    assert head_of(other, spec)[0] == "1.0"
    with pytest.raises(ValueError, match=r"classifier of MODEL my\.networks:other, 0, is a Conv2d; expected an nn\.Linear"):
        head_of(nn.Sequential(nn.Conv2d(4, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), spec)
