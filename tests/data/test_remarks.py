"""What is odd about a file that can be read is said once, with its name; C libraries never speak for themselves."""

import io
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features

from furnace.data import remarks
from furnace.data.decoding import decode_image, decode_mask
from furnace.data.images import read_image, read_label
from furnace.data.remarks import MOST, decoders_heard, say_nothing, say_once
from furnace.errors import InputError

NOISE = np.random.default_rng(1).uniform(0, 255, (90, 120, 3)).astype(np.float32)
PICTURE = cv2.normalize(cv2.GaussianBlur(NOISE, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
OTHER = 255 - PICTURE


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remarks, "_said", bytearray(1 + remarks.SLOTS))


def packed(form: str, *pictures: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    first, *others = (picture if isinstance(picture, Image.Image) else Image.fromarray(picture) for picture in pictures)
    several = {"save_all": True, "append_images": others} if others else {}
    first.save(file, form, **several, **options)
    return file.getvalue()


def damaged_jpeg(bytes_damaged: int = 40) -> bytes:
    content = bytearray(cv2.imencode(".jpg", PICTURE)[1].tobytes())
    middle = len(content) // 2
    for place in range(middle, middle + bytes_damaged):
        content[place] ^= 0x55
    return bytes(content)


def heard(content: bytes, decode: Callable = decode_image) -> list[str]:
    """What is said about a file, apart from its name."""
    said: list[str] = []
    decode(np.frombuffer(content, np.uint8), "x", tell=lambda name, remark: said.append(remark))
    return said


def test_damaged_pixels_are_named_and_the_decoder_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "ä b.jpg"
    path.write_bytes(damaged_jpeg())
    for _ in range(3):
        assert read_image(path).shape == PICTURE.shape
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"note: {path}: damaged (Corrupt JPEG data: ") and "replace it" in line


@pytest.mark.parametrize(
    "content",
    [
        cv2.imencode(".jpg", PICTURE)[1].tobytes(),
        packed("PNG", PICTURE),
        packed("PNG", PICTURE, icc_profile=b"rubbish" * 50),  # libpng warns of the profile, which changes no pixel
        packed("JPEG", PICTURE, icc_profile=b"rubbish" * 50),
        packed("WEBP", PICTURE),
        packed("GIF", PICTURE),
        packed("TIFF", PICTURE),
        packed("PNG", np.full((9, 9), 4096, np.uint16)),
    ],
)
def test_nothing_is_said_of_a_good_file(content: bytes, capfd: pytest.CaptureFixture) -> None:
    assert heard(content) == [] and capfd.readouterr().err == ""


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP", "AVIF"])
def test_the_first_of_several_frames_is_taken_and_said(form: str) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    content = packed(form, PICTURE, OTHER, **({"lossless": True} if form == "WEBP" else {}))
    assert [remark.split(",")[0] for remark in heard(content)] == ["holds several frames or pages"]
    shown = decode_image(np.frombuffer(content, np.uint8), "x", say_nothing).astype(int)
    assert np.abs(shown - PICTURE).mean() < 25 < np.abs(shown - OTHER).mean()  # GIF has few colours


def test_a_mask_of_several_pages_is_said_too() -> None:
    assert heard(packed("TIFF", PICTURE[..., 0], OTHER[..., 0]), decode_mask)


def test_a_smaller_copy_behind_a_tiff_is_no_page_of_its_own() -> None:
    small = Image.fromarray(PICTURE[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    assert heard(packed("TIFF", PICTURE, small)) == []


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_twelve_bits_of_sixteen_come_out_black(form: str) -> None:
    for most, words in ((4095, ["16 bits"]), (65535, [])):
        values = np.linspace(0, most, 90 * 120).reshape(90, 120).astype(np.uint16)
        assert [remark.split(",")[0] for remark in heard(packed(form, values))] == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypheic" + b"\1" * 100, "a HEIC photograph or a video, not a whole image file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "fetch it with `git lfs pull`"),
        (bytes(5000), "zero bytes alone"),
        (b"PK\x03\x04" + b"\1" * 100, "unpack it"),
        (b"\x93NUMPY" + b"\1" * 100, "convert it to JPEG or PNG"),
        (packed("TIFF", PICTURE[..., 0].astype(np.float32)), "fractions or 32 bits"),
        (packed("TIFF", PICTURE[..., 0].astype(np.int32)), "fractions or 32 bits"),
        (packed("TIFF", PICTURE)[:-200], "if viewers show it, save it with three channels of 8 bits"),
        (packed("AVIF", PICTURE)[:300] if features.check("avif") else b"\0\0\0\x1cftypavif", "which reads AVIF"),
    ],
)
def test_an_error_says_what_the_file_is_instead(content: bytes, words: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError) as error:
        decode_image(np.frombuffer(content, np.uint8), "photo.jpg")
    assert "photo.jpg" in str(error.value) and words in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_no_decoder_speaks_of_a_cut_or_changed_file(form: str, part: float, capfd: pytest.CaptureFixture) -> None:
    whole = packed(form, PICTURE)
    place = int(part * len(whole))
    changed = bytearray(whole)
    changed[place : place + 30] = bytes(byte ^ 0x55 for byte in changed[place : place + 30])
    for content in (whole[:place], bytes(changed)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remarks, "say_note", lambda text: None)
            try:
                decode_image(np.frombuffer(content, np.uint8), "x")
            except InputError as error:
                assert "x: " in str(error)
    assert capfd.readouterr().err == ""


def test_a_jpeg_mask_is_said_to_be_one(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "a.jpg"
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    cv2.imwrite(str(path), mask * 200)
    with pytest.raises(InputError, match=r"outside the classes: .*a\.jpg \(a JPEG, .*: save masks as PNG\) holds"):
        read_label(path, 2)
    cv2.imwrite(str(path), mask)
    read_label(path, 2)
    assert f"note: {path}: labels may be wrong (a JPEG, whose packing changes values" in capfd.readouterr().err
    path.write_bytes(packed("WEBP", mask * 30, quality=10))
    with pytest.raises(InputError, match="a WebP, whose packing changes values"):
        read_label(path, 2)
    path.write_bytes(packed("WEBP", np.stack(3 * [mask], axis=2), lossless=True))
    assert (read_label(path, 2) == mask).all() and capfd.readouterr().err == ""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_mask_with_alpha_gives_its_indices(bits: int) -> None:
    """OpenCV makes three channels of it."""
    mask = np.random.default_rng(0).integers(0, 5, (6, 7))
    both = np.stack([mask, np.full_like(mask, 2**bits - 1)], axis=2).astype(">u2" if bits == 16 else np.uint8)
    header = np.array([7, 6], ">u4").tobytes() + bytes([bits, 4, 0, 0, 0])
    rows = b"".join(b"\0" + row.tobytes() for row in both)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows))
    found = decode_mask(np.frombuffer(content + png_chunk(b"IEND", b""), np.uint8), "x")
    assert (found == mask).all()


def test_four_inks_become_rgb() -> None:
    """A JPEG for printers (CMYK), as Pillow reads it."""
    content = packed("JPEG", Image.fromarray(PICTURE).convert("CMYK"), quality=95)
    expected = np.array(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(decode_image(np.frombuffer(content, np.uint8), "x") - expected).max() <= 3


@pytest.mark.parametrize("ending", ["jfif", "jpe", "avif", "dib", "pbm", "pnm", "j2k"])
def test_what_the_endings_promise_can_be_read(ending: str, tmp_path: Path) -> None:
    form = {"jfif": "JPEG", "jpe": "JPEG", "dib": "BMP", "pbm": "PPM", "pnm": "PPM", "j2k": "JPEG2000"}.get(
        ending, "AVIF"
    )
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    picture = Image.fromarray(PICTURE)
    (tmp_path / f"a.{ending}").write_bytes(packed(form, picture.convert("1") if ending == "pbm" else picture))
    assert read_image(tmp_path / f"a.{ending}").shape == PICTURE.shape


def test_remarks_are_said_once_and_not_without_end(capfd: pytest.CaptureFixture) -> None:
    for number in (*range(MOST + 5), *range(MOST + 5)):
        say_once(f"{number}.jpg", "odd\nlines")
    *lines, last = capfd.readouterr().err.splitlines()
    assert lines == [f"note: {number}.jpg: odd\\nlines" for number in range(MOST)]
    assert last.startswith("note: there are remarks about more files")


def test_what_others_write_meanwhile_is_not_lost(capfd: pytest.CaptureFixture) -> None:
    """A bar of another thread, an error line, and what no one knows, which gets the file's name."""
    with decoders_heard("a.jpg") as damage:
        os.write(2, b"\r 10%|#  | 1/10 [00:01]Corrupt JPEG data: bad Huffman code\n")
        os.write(2, b"error: another file\nlibpng warning: iCCP: too short\nlibnew: strange\n")
        os.write(2, b"libpng warning: IDAT: Extra compressed data\n")
    assert damage == ["Corrupt JPEG data: bad Huffman code", "IDAT: Extra compressed data"]
    shown = capfd.readouterr().err
    assert shown == "\r 10%|#  | 1/10 [00:01]\nerror: another file\nnote: a.jpg: libnew: strange\n"
    with pytest.raises(ValueError, match="within"), decoders_heard("a.jpg"):
        os.write(2, b"error: another file\n")
        raise ValueError("within")
    assert capfd.readouterr().err == "error: another file\n"


def test_standard_error_is_where_it_was(capfd: pytest.CaptureFixture) -> None:
    heard(damaged_jpeg())
    print("here", file=sys.stderr, flush=True)
    assert capfd.readouterr().err == "here\n"


def test_processes_hear_only_what_is_theirs(capfd: pytest.CaptureFixture) -> None:
    """A worker decodes while its parent does."""
    heard(damaged_jpeg())
    there, said = os.pipe()
    done, end = os.pipe()
    if (child := os.fork()) == 0:
        with decoders_heard("child.jpg"):
            os.write(2, b"libnew: strange\n")
            os.write(said, b"!")
            os.read(done, 1)
        os._exit(0)
    try:
        os.read(there, 1)
        with decoders_heard("parent.jpg"):
            pass
        assert capfd.readouterr().err == ""
    finally:
        os.write(end, b"!")
        os.waitpid(child, 0)
    assert capfd.readouterr().err == "note: child.jpg: libnew: strange\n"


def test_without_standard_error_images_are_read_all_the_same() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        assert decode_image(np.frombuffer(packed("PNG", PICTURE), np.uint8), "x").shape == PICTURE.shape
    finally:
        os.dup2(kept, 2)
        os.close(kept)
