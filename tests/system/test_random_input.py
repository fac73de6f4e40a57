"""Whatever stands in a file or a setting: it is read, or refused in one line; never a traceback, and no code is run.

HYPOTHESIS_PROFILE=long python -m pytest tests/system/test_random_input.py     # a thousand times each
"""

import os
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from furnace.config.record import read_record
from furnace.config.settings import FIELDS, Settings, read_settings
from furnace.data.datasets import VOC
from furnace.data.declaration import read_declaration
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.images import read_image, read_label
from furnace.errors import InputError
from furnace.evaluation.log_table import PUBLISHED_COLUMNS, read_table
from furnace.network.tensors import read_tensors
from furnace.training.log import EpochTable

settings.register_profile("short", max_examples=100)
settings.register_profile("long", max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
ANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
CLASSES = 5


def accepted(read: Callable[[], object], name: Path | str) -> object:
    """What is read; None where it is refused, in one line that names the file or setting."""
    try:
        return read()
    except InputError as error:
        assert str(name) in str(error) and "\n" not in str(error)
        return None


@ANY
@given(st.sampled_from(sorted(FIELDS)), st.text())
def test_any_text_for_any_setting(name: str, text: str) -> None:
    found = accepted(lambda: read_settings({}, {name: text}), name)
    assert found is None or isinstance(found, Settings)


@ANY
@given(
    st.sampled_from(sorted(FIELDS)),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats() | st.text(), max_size=3),
)
def test_any_value_in_config_py(name: str, value: object) -> None:
    found = accepted(lambda: read_settings({name: value}, {}), name)
    assert found is None or isinstance(found, Settings)


@ANY
@example(content="\u00a0".encode())  # a space that takes two bytes
@given(
    st.binary() | st.text().map(str.encode) | st.lists(st.text("ab/\t. \0", min_size=1)).map("\n".join).map(str.encode)
)
def test_any_bytes_as_a_list(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    files = accepted(lambda: FileList(path), path)
    if files is None:
        return
    split = Split(VOC, tmp_path, files, "val")
    for number in range(len(files)):
        line = accepted(lambda number=number: files[number], path)
        assert line is None or line.strip() == line != ""
        for read, place in ((split.image_path, ""), (split.label_path, path), (split.labeled, "")):
            accepted(lambda read=read, number=number: read(number), place)


def encoded(ending: str, channels: int, **options: object) -> bytes:
    """A small image of a format."""
    pixels = np.arange(12 * 10 * channels, dtype=np.uint8).reshape(12, 10, channels) % CLASSES
    stream = BytesIO()
    Image.fromarray(pixels.squeeze()).save(stream, ending, **options)
    return stream.getvalue()


def palette_png() -> bytes:
    image = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10) % CLASSES).convert("P")
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


WHOLE = {
    "png": encoded("PNG", 3),
    "grey png": encoded("PNG", 1),
    "palette png": palette_png(),
    "16 bit png": cv2.imencode(".png", np.arange(120, dtype=np.uint16).reshape(12, 10))[1].tobytes(),
    "jpeg": encoded("JPEG", 3),
    "grey jpeg": encoded("JPEG", 1),
    "tiff": encoded("TIFF", 3),
    "packed tiff": encoded("TIFF", 1, compression="tiff_lzw"),
    "bmp": encoded("BMP", 3),
    "gif": encoded("GIF", 1),
    "webp": encoded("WEBP", 3),
    "jpeg 2000": encoded("JPEG2000", 3),
}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with bytes changed, cut out, doubled, or its end missing; of PNGs the checksums may be right again."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 8))
        match draw(st.sampled_from(["change", "insert", "remove", "cut"])):
            case "change":
                content[place : place + length] = draw(st.binary(min_size=length, max_size=length))
            case "insert":
                content[place:place] = draw(st.binary(max_size=length))
            case "remove":
                del content[place : place + length]
            case "cut":
                del content[place:]
    return with_right_checksums(content) if draw(st.booleans()) else bytes(content)


def with_right_checksums(content: bytearray) -> bytes:
    """Chunks of a PNG get the checksum of what they hold now, so that decoders look further."""
    place = 8
    while content.startswith(b"\x89PNG") and place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        if place + 12 + length > len(content):
            break
        inside = content[place + 4 : place + 8 + length]
        content[place + 8 + length : place + 12 + length] = zlib.crc32(inside).to_bytes(4)
        place += 12 + length
    return bytes(content)


FILES = st.binary(max_size=200) | st.sampled_from(sorted(WHOLE.values())).flatmap(damaged)


@ANY
@given(FILES)
def test_any_bytes_as_an_image_or_a_mask(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    image = accepted(lambda: read_image(path), path)
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0)
    label = accepted(lambda: read_label(path, CLASSES), path)
    assert label is None or (label.dtype == np.uint8 and label.ndim == 2 and ((label < CLASSES) | (label == 255)).all())


@pytest.mark.parametrize("kind", WHOLE)
def test_the_files_that_are_damaged_were_good(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(WHOLE[kind])
    assert read_image(path).shape == (12, 10, 3)


def weights() -> bytes:
    stream = BytesIO()
    torch.save({"model": {"weight": torch.arange(12.0).reshape(3, 4)}, "epoch": 3}, stream)
    return stream.getvalue()


@ANY
@given(st.binary(max_size=300) | damaged(weights()))
def test_any_bytes_as_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    found = accepted(lambda: read_tensors(path), path)
    assert found is None or isinstance(found, dict)


TABLE = (",".join(PUBLISHED_COLUMNS) + "\nlog,run,model_epoch1.pth,53.3,53.1,69.5,v2\n").encode()


@ANY
@given(st.binary() | st.text().map(str.encode) | damaged(TABLE))
def test_any_bytes_as_tables_and_records(tmp_path: Path, content: bytes) -> None:
    for name, read in {
        "log_df.csv": lambda path: read_table(path),
        "metrics.csv": lambda path: EpochTable(path, last_epoch=3),
        "config.json": lambda path: read_record(path.parent),
        "dataset.json": lambda path: read_declaration(path.parent),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        accepted(lambda read=read, path=path: read(path), path)
