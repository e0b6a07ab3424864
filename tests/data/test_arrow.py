"""Hugging Face's Arrow and Parquet files, as `save_to_disk` and the Hub have them, give the images that are in them."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import arrow
from data.index import Data, fingerprint, index
from data.loader import Split, batches
from tests.data.conftest import Tree, picture
from tests.data.test_folder import network

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra huggingface) is not installed")
IMAGE = {"_type": "Image"}
NAMED = {"image": IMAGE, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def embedded(numbers: range) -> list[dict[str, Any]]:
    return [{"bytes": png(i), "path": f"{i}.png"} for i in numbers]


def table(file: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, compression: str | None = None) -> None:
    """Write a file as the package datasets does, in small pieces."""
    from pyarrow import ipc, parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    content = pyarrow.table(columns)
    content = content.replace_schema_metadata(metadata)
    if file.suffix == ".parquet":
        parquet.write_table(content, file, row_group_size=7, compression=compression or "snappy")
        return
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_stream(file, content.schema, options=options) as stream:
        stream.write_table(content, max_chunksize=7)


LAYOUTS = {
    "save_to_disk": (
        "train/data-00000-of-00002.arrow",
        "train/data-00001-of-00002.arrow",
        "validation/data-00000-of-00001.arrow",
    ),
    "Hub": ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/validation-00000-of-00001.parquet"),
    "converted": ("default/train/0000.parquet", "default/train/0001.parquet", "default/validation/0000.parquet"),
    "cache": ("set-train-00000-of-00002.arrow", "set-train-00001-of-00002.arrow", "set-validation.arrow"),
}
RANGES = (range(20), range(20, 40), range(40, 50))
Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A folder with two tables for training and one for the test, with 20, 20 and 10 rows."""

    def make(
        layout: str = "save_to_disk",
        column: Callable[[range], dict[str, Any]] = lambda rows: {"image": embedded(rows), "label": [i % 2 for i in rows]},
        features: dict[str, Any] | None = NAMED,
    ) -> Path:
        root = tmp_path / "my-table"
        for name, rows in zip(LAYOUTS[layout], RANGES, strict=True):
            table(root / name, column(rows), features)
            (root / name).with_name("dataset_info.json").write_text('{"features": {}}')
            (root / name).with_name("cache-1234.arrow").write_bytes(b"of datasets.map")
        (root / "README.md").write_text("a data set")
        return root

    return make


def data_of(root: Path) -> Data:
    return Data(name=str(root), cache=str(root.parent / "cache"), input_size=32, resize="pad")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_classes_are_those_in_the_tables(made: Made, out: Path, layout: str) -> None:
    root = made(layout)
    found = index(data_of(root), out)
    assert found["classes"] == ["cat", "dog"] and found["splits"] == {"train": 38, "val": 2, "test": 10}
    assert found["notes"] == [] and found["trainable"]
    test = Split(out, "test")
    for i in range(10):
        assert test.original(i) == png(40 + i)
        assert test.image(i).tobytes() == picture(40 + i).tobytes()
        assert test.name(i) == f"{LAYOUTS[layout][2]}/{i}"
    assert test.labels.tolist() == [0, 1] * 5
    assert sum(len(x) for x, _ in batches(Split(out, "train"), 7, shuffle=True)) == 35


def numbers(rows: range) -> dict[str, Any]:
    return {"image": embedded(rows), "label": [i % 2 for i in rows]}


def words(rows: range) -> dict[str, Any]:
    return {"id": list(rows), "image": embedded(rows), "species": [("owl", "cat")[i % 2] for i in rows]}


def plain(rows: range) -> dict[str, Any]:
    return {"label": [i % 2 for i in rows], "content": [png(i) for i in rows]}


def fine(rows: range) -> dict[str, Any]:
    return {"img": embedded(rows), "fine": [i % 2 for i in rows], "coarse": [0 for _ in rows], "boxes": [[1, 2] for _ in rows]}


FINE = {
    "img": IMAGE,
    "fine": {"names": ["a", "b", "c"], "_type": "ClassLabel"},
    "coarse": {"names": ["all"], "_type": "ClassLabel"},
    "boxes": [{"dtype": "int64", "_type": "Value"}],
}


@pytest.mark.parametrize("layout", ["save_to_disk", "Hub"])
@pytest.mark.parametrize(
    ("column", "features", "classes", "notes"),
    [
        (numbers, None, ["0", "1"], []),
        (words, None, ["cat", "owl"], []),
        (plain, None, ["0", "1"], []),
        (fine, FINE, ["a", "b", "c"], ["The labels are those of the column 'fine', not of coarse."]),
    ],
)
def test_columns_are_found(
    made: Made, out: Path, layout: str, column: Any, features: Any, classes: list[str], notes: list[str]
) -> None:
    found = index(data_of(made(layout, column, features)), out)
    assert found["classes"] == classes and found["notes"] == notes
    test = Split(out, "test")
    assert test.original(3) == png(43)
    assert test.labels[3] == (0 if column is words else 1)


def test_test_images_without_labels_are_not_used(made: Made, out: Path) -> None:
    root = made()
    table(root / "test" / "data-00000-of-00001.arrow", {"image": embedded(range(3)), "label": [-1] * 3}, NAMED)
    found = index(data_of(root), out)
    assert found["notes"] == ["test/ has no labels (3 images) and is not used; val/ is the test set."]
    assert found["splits"]["test"] == 10


@pytest.mark.parametrize("layout", ["save_to_disk", "Hub"])
def test_a_table_without_rows_is_nothing(made: Made, out: Path, layout: str) -> None:
    root = made(layout)
    last = root / LAYOUTS[layout][1]
    columns = {"image": pyarrow.array([], pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))}
    table(last.with_stem(last.stem.replace("0001", "0002")), {**columns, "label": pyarrow.array([], "int64")}, NAMED)
    assert sum(index(data_of(root), out)["splits"].values()) == 50


def test_one_table_is_split_by_content(made: Made, out: Path) -> None:
    root = made()
    (root / LAYOUTS["save_to_disk"][0]).rename(root / "data-00000-of-00001.arrow")
    for name in LAYOUTS["save_to_disk"][1:]:
        (root / name).unlink()
    found = index(data_of(root), out)
    assert sum(found["splits"].values()) == 20 and "is not split into train/ and test/" in found["notes"][0]


def test_images_without_labels_judge_a_checkpoint(tmp_path: Path, out: Path) -> None:
    table(tmp_path / "my-table" / "all.parquet", {"image": embedded(range(10))})
    found = index(data_of(tmp_path / "my-table"), out, network=network(tmp_path / "network"))
    assert not found["labelled"] and sum(found["splits"].values()) == 10


def test_parquet_is_copied_once_and_again_where_the_copy_is_gone(
    made: Made, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made("Hub")
    copied: list[str] = []
    copy_images = arrow.copy_images

    def counted(root: bytes, file: bytes, cache: Path) -> None:
        copied.append(os.path.basename(os.fsdecode(file)))
        copy_images(root, file, cache)

    monkeypatch.setattr(arrow, "copy_images", counted)
    before = fingerprint(data_of(root))
    assert len(copied) == 3
    index(data_of(root), out)
    assert fingerprint(data_of(root)) == before and len(copied) == 3
    [largest] = [Split(out, "test").files.larger[2]]
    Path(largest).unlink()
    assert fingerprint(data_of(root)) == before and copied[3:] == ["validation-00000-of-00001.parquet"]
    assert Split(out, "test").original(0) == png(40)


def test_an_interrupted_copy_leaves_nothing_half(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made("Hub")
    rows = arrow.Rows.__iter__

    def interrupted(self: Any) -> Any:
        yield next(rows(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(arrow.Rows, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fingerprint(data_of(root))
    assert not list((root.parent / "cache" / "unpacked").iterdir())


def broken(root: Path) -> None:
    file = next(root.rglob("train*1*-of-*"), root / "train" / "data-00001-of-00002.arrow")
    file.write_bytes(file.read_bytes()[:3000])


def of_text(root: Path) -> None:
    file = next(root.rglob("train*1*-of-*"), root / "train" / "data-00001-of-00002.arrow")
    table(file, {"text": ["a", "b"], "label": [0, 1]})


def of_paths(root: Path) -> None:
    file = next(root.rglob("train*1*-of-*"), root / "train" / "data-00001-of-00002.arrow")
    table(
        file, {"image": [{"bytes": png(0), "path": "x"}, {"bytes": None, "path": "/elsewhere/x.png"}], "label": [0, 1]}, NAMED
    )


@pytest.mark.parametrize("layout", ["save_to_disk", "Hub"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (broken, r"-00001-of-00002\.\w+ cannot be read \(.*\); copy it here again"),
        (of_text, r"has the columns text, label; expected a column of type Image"),
        (of_paths, r"has images without bytes, only with paths; expected the images themselves"),
    ],
)
def test_a_fault_is_one_line(made: Made, out: Path, layout: str, fault: Callable[[Path], None], message: str) -> None:
    root = made(layout)
    fault(root)
    with pytest.raises(ValueError, match=message) as refusal:
        index(data_of(root), out)
    assert "\n" not in str(refusal.value)


def test_compressed_columns_of_arrow_are_refused(tmp_path: Path, out: Path) -> None:
    columns = {"image": embedded(range(20)), "label": [i % 2 for i in range(20)]}
    table(tmp_path / "my-table" / "data.arrow", columns, NAMED, compression="lz4")
    with pytest.raises(ValueError, match=r"data\.arrow has compressed columns; expected a file of Dataset\.save_to_disk"):
        index(data_of(tmp_path / "my-table"), out)


def test_a_copy_that_cannot_be_written_is_one_line(made: Made, out: Path) -> None:
    root = made("Hub")
    (root.parent / "cache").write_bytes(b"a file")
    with pytest.raises(ValueError, match=r"^the images of train-00000-of-00002\.parquet cannot be copied to .*data\.cache=…$"):
        index(data_of(root), out)


def test_tables_beside_images_are_left_out(tree: Tree, out: Path) -> None:
    root = tree({"train/a": 20, "train/b": 20, "val/a": 2, "val/b": 2, "train/metadata.parquet": b"", "list.arrow": b""})
    assert index(data_of(root), out)["splits"] == {"train": 38, "val": 2, "test": 4}


def test_what_the_package_datasets_writes(tmp_path: Path, out: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="package datasets is not installed")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    parts = {
        split: datasets.Dataset.from_dict(
            {"image": [picture(i) for i in rows], "label": [i % 2 for i in rows]}, features=features
        )
        for split, rows in (("train", range(40)), ("validation", range(40, 50)))
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved", num_shards={"train": 2, "validation": 1})
    for split, part in parts.items():
        part.to_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    for name in ("saved", "hub"):
        (out / name).mkdir()
        found = index(data_of(tmp_path / name), out / name)
        assert found["classes"] == ["cat", "dog"] and found["splits"] == {"train": 38, "val": 2, "test": 10}
        test = Split(out / name, "test")
        assert [test.image(i).tobytes() for i in range(10)] == [picture(40 + i).tobytes() for i in range(10)]
