"""Words of the command line that say the same thing twice: they agree, or the run is refused with both values."""

from typing import Any

import pytest

from pipeline.options import changes_of, preprocessing, together


def flags(**said: Any) -> dict[str, Any]:
    names = ("input_size", "resize", "crop_pct", "interpolation", "mean", "std", "channels", "exif", "channel_order")
    return preprocessing(**{name: said.get(name) for name in names})


@pytest.mark.parametrize(
    ("changes", "said", "meant"),
    [
        (["data.input_size=96"], {"input_size": 96}, {"data.input_size": 96}),
        (["data.input_size=96", "data.input_size=96"], {}, {"data.input_size": 96}),
        (["data.exif=ignore"], {"exif": "ignore"}, {"data.exif": "ignore"}),
        (["data.bit_depth=12"], {"exif": "apply"}, {"data.bit_depth": 12, "data.exif": "apply"}),
    ],
)
def test_what_agrees(changes: list[str], said: dict[str, Any], meant: dict[str, Any]) -> None:
    assert together(changes_of(changes), flags(**said)) == meant


@pytest.mark.parametrize(
    ("changes", "said", "message"),
    [
        (
            ["data.input_size=96"],
            {"input_size": 128},
            "--set data.input_size=96 and the flag for data.input_size \\(128\\) disagree",
        ),
        (["data.exif=apply"], {"exif": "ignore"}, "--set data.exif=apply and the flag for data.exif \\(ignore\\) disagree"),
        (
            ["data.resize=96", "data.resize=128"],
            {},
            "--set data.resize=96 and --set data.resize=128 disagree; pass one of them",
        ),
    ],
)
def test_what_disagrees(changes: list[str], said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        together(changes_of(changes), flags(**said))
