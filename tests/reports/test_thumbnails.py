"""The pictures in the report: their pixels and nothing else."""

import base64
import io
from pathlib import Path

from PIL import Image

from data.index import Data, index
from reports.thumbnails import SIDE, thumbnails
from tests.export import photographs


def test_a_thumbnail_does_not_say_where_the_photograph_was_taken(tmp_path: Path) -> None:
    place = b"52 deg 31' N"
    for part in ("train", "test"):
        photographs.write(tmp_path / "photographs" / part / "anything")
    photographs.with_place(tmp_path / "photographs/test/anything/place.jpg", place)
    images = tmp_path / "images"
    images.mkdir()
    count = index(Data(name=str(tmp_path / "photographs"), input_size=32), images)["splits"]["test"]
    found = thumbnails(images, range(count))
    assert len(found) == count == len(list((tmp_path / "photographs/test").rglob("*.*")))
    for uri in found.values():
        content = base64.b64decode(uri.partition("base64,")[2])
        image = Image.open(io.BytesIO(content))
        assert max(image.size) <= SIDE
        assert place not in content and "comment" not in image.info and not image.getexif()
