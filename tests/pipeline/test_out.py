"""The folder of a run names what was pressed, and no two runs of different checkpoints or images share one."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import __main__, api
from pipeline.compare import Entry
from pipeline.out import default_comparison, default_out
from pipeline.recipe import load_recipe


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(model: str = "resnet50", **changes: Any) -> str:
    given = {key.replace("__", "."): value for key, value in changes.items()}
    return str(default_out(model, load_recipe(model, None, given, [])))


def test_the_folder_has_the_names_of_what_is_not_the_default() -> None:
    assert folder("resnet18") == folder("resnet18", data__name="fashion-mnist") == "runs/resnet18"
    assert folder("resnet18", data__name="cifar10") == "runs/resnet18+cifar10"
    assert folder(checkpoint="mine.pth") == "runs/resnet50-mine"
    assert folder(checkpoint="mine.pth", data__name="my-images") == "runs/resnet50-mine+my-images"
    assert (
        folder("tests.compress.parts:own_network", data__name="my-images") == "runs/tests.compress.parts.own_network+my-images"
    )


def test_the_same_file_has_the_same_folder_however_it_is_spelled(desk: Path) -> None:
    spellings = ["mine.pth", "./mine.pth", "x/../mine.pth", str(desk / "mine.pth")]
    assert {folder(checkpoint=text) for text in spellings} == {"runs/resnet50-mine"}
    assert {folder(data__name=text) for text in ("my-images", "my-images/", f"{desk}/my-images")} == {"runs/resnet50+my-images"}
    assert folder(checkpoint="other/mine.pth") == folder(checkpoint=str(desk / "other/mine.pth"))


def test_different_checkpoints_and_images_have_different_folders() -> None:
    checkpoints = [
        None, "mine.pth", "mine.pt", "mine.safetensors", "yours.pth", "a/mine.pth", "b/mine.pth", "/mine.pth", "cifar10.pth",
        "my weights.pth", "my_weights.pth", "my+weights.pth", "größe.pth", "grße.pth", "x" * 90 + ".pth", "x" * 91 + ".pth",
    ]  # fmt: skip
    sets = [
        None,
        "cifar10",
        "./cifar10",
        "./fashion-mnist",
        "images",
        "a/images",
        "b/images",
        "/data/images",
        "..",
        "my images",
    ]
    found = [
        folder(**{key: value for key, value in (("checkpoint", one), ("data__name", other)) if value})
        for one in checkpoints
        for other in sets
    ]
    assert len(set(found)) == len(checkpoints) * len(sets)
    for path in map(Path, found):
        assert path.parent == Path("runs") and path.name.isascii() and len(path.name) < 128
        assert not set(path.name) & set(" :/\\~$'\"()[]{}*?<>|&;!#")


def test_names_that_are_not_text_have_a_folder(desk: Path) -> None:
    assert folder(checkpoint=os.fsdecode(b"mine\xff.pth")).startswith("runs/resnet50-mine_-")


@pytest.mark.parametrize(
    "arguments", [["--checkpoint", "mine.pth", "--data", "imgs"], ["--set", "checkpoint=mine.pth", "--set", "data.name=imgs"]]
)
def test_the_command_line_and_python_use_the_same_folder(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def noted(model: str, recipe: Any, wanted: Any, out: Path, *_: Any, **__: Any) -> None:
        used.append(str(out))
        raise ValueError("enough")

    monkeypatch.setattr(api, "run", noted)
    monkeypatch.setattr(sys, "argv", ["respress", "compress", "resnet50", *arguments])
    with pytest.raises(SystemExit):
        __main__.main()
    with pytest.raises(ValueError, match="enough"):
        api.compress("resnet50", checkpoint="mine.pth", data="imgs")
    with pytest.raises(ValueError, match="enough"):
        api.compress("resnet50", checkpoint="mine.pth", data="imgs", out="elsewhere")
    assert used == ["runs/resnet50-mine+imgs"] * 2 + ["elsewhere"]


def comparison(*models: tuple[str, str | None], data: str | None = None) -> str:
    def entry(model: str, checkpoint: str | None) -> Entry:
        given = {"checkpoint": checkpoint, "data.name": data}
        return Entry(model, load_recipe(model, None, {key: value for key, value in given.items() if value}, []), {})

    return str(default_comparison(entry(*each) for each in models))


def test_the_folder_of_a_comparison_has_the_names_of_its_networks_and_images() -> None:
    both = (("resnet18", None), ("resnet50", None))
    assert comparison(*both) == "runs/compare-resnet18,resnet50"
    assert comparison(*both, data="cifar10") == "runs/compare-resnet18,resnet50+cifar10"
    assert comparison(both[0], ("resnet50", "mine.pth"), data="my-images") == "runs/compare-resnet18,resnet50-mine+my-images"


def test_different_comparisons_have_different_folders() -> None:
    networks = ["resnet18", "resnet34", "resnet50"]
    files = [None, "mine.pth", "yours.pth", "a/mine.pth", "resnet50.pth", "x" * 90 + ".pth", "x" * 91 + ".pth"]
    found = [
        comparison(*((model, file) for model in some), *more, data=data)
        for some in (networks, networks[:2], networks[::-1])
        for more in ([], [("resnet152", "y" * 90 + ".pth")])
        for file in files
        for data in (None, "cifar10", "a/images", "b/images")
    ]
    assert len(set(found)) == len(found)
    assert all(Path(path).parent == Path("runs") and len(Path(path).name) < 180 for path in found)


def test_compare_writes_into_the_folder_of_its_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def noted(entries: Any, wanted: Any, out: Path, *_: Any) -> None:
        used.append(str(out))
        raise ValueError("enough")

    monkeypatch.setattr("pipeline.compare.compare", noted)
    for more in ([], ["--data", "cifar10"], ["--out", "elsewhere"]):
        monkeypatch.setattr(sys, "argv", ["respress", "compare", "resnet18,resnet50=mine.pth", *more])
        with pytest.raises(SystemExit):
            __main__.main()
    assert used == ["runs/compare-resnet18,resnet50-mine", "runs/compare-resnet18,resnet50-mine+cifar10", "elsewhere"]
