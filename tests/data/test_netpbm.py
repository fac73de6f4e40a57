"""PBM, PGM and PPM are read as a slow, obvious reader and other libraries read them; what lies is named."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from furnace.data.decoding import decode_image, decode_mask
from furnace.data.images import read_image, read_label
from furnace.data.netpbm import file_bytes
from furnace.errors import InputError

SPACES = b" \t\n\v\f\r"


class Longhand:
    """Reads a file byte by byte, as Netpbm's own library does: a comment counts as the byte that ends its line."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 2
        if content[:1] != b"P" or content[1:2] not in (b"1", b"2", b"3", b"4", b"5", b"6"):
            raise ValueError
        self.kind = int(content[1:2])
        if content[2:3] not in [bytes([space]) for space in SPACES + b"#"]:
            raise ValueError
        self.width, self.height = self.number(), self.number()
        self.largest = 1 if self.kind in (1, 4) else self.number()
        if not self.width or not self.height or not 1 <= self.largest <= 65535:
            raise ValueError
        self.channels = 3 if self.kind in (3, 6) else 1
        self.values = self.pixels()
        if max(self.values) > self.largest:
            raise ValueError

    def byte(self) -> int:
        if self.place >= len(self.content):
            raise ValueError
        self.place += 1
        return self.content[self.place - 1]

    def sign(self) -> int:
        sign = self.byte()
        if sign == ord("#"):
            while sign not in b"\r\n":
                sign = self.byte()
        return sign

    def number(self, may_end: bool = False) -> int:
        """The next number; it takes the whitespace byte behind it."""
        sign = self.sign()
        while sign in SPACES:
            sign = self.sign()
        digits = ""
        while sign in b"0123456789":
            digits += chr(sign)
            if may_end and self.place == len(self.content):
                return int(digits)
            sign = self.sign()
        if not digits or sign not in SPACES:
            raise ValueError
        return int(digits)

    def digit(self) -> int:
        sign = self.sign()
        while sign in SPACES:
            sign = self.sign()
        if sign not in b"0123456789":
            raise ValueError
        return sign - ord("0")

    def pixels(self) -> list[int]:
        count = self.width * self.height * self.channels
        if count > 10_000:
            raise ValueError
        if self.kind == 1:
            return [self.digit() for _ in range(count)]
        if self.kind in (2, 3):
            return [self.number(may_end=True) for _ in range(count)]
        if self.kind == 4:
            rows = [[self.byte() for _ in range(-(-self.width // 8))] for _ in range(self.height)]
            return [row[x // 8] >> (7 - x % 8) & 1 for row in rows for x in range(self.width)]
        if self.largest < 256:
            return [self.byte() for _ in range(count)]
        return [256 * self.byte() + self.byte() for _ in range(count)]

    def colours(self) -> list[int]:
        """The values as 8 bits, three for each pixel."""
        if self.kind in (1, 4):
            grey = [255 * (1 - value) for value in self.values]
        elif self.largest == 65535:
            grey = [value // 256 for value in self.values]
        else:
            grey = [int(Fraction(255 * value, self.largest) + Fraction(1, 2)) for value in self.values]
        return grey if self.channels == 3 else [value for value in grey for _ in range(3)]


GAPS = st.lists(st.sampled_from([b" ", b"\n", b"\t", b"\r\n", b"#\n", b"# 12 ab\n", b"#x\r"]), min_size=1, max_size=3)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file that is right, or one that is cut, longer, has a lying header or bytes that are changed."""
    is_odd = draw(st.booleans())

    def one_of(right: list, odd: list) -> Any:
        return draw(st.sampled_from(right + odd if is_odd else right))

    kind, height, width = draw(st.integers(1, 6)), one_of([1, 2, 3], [0]), one_of([1, 2, 3, 9], [0])
    largest = one_of([1, 15, 255, 256, 1000, 65535], [0, 65536])
    content = b"P%d" % kind
    for number in [width, height] if kind in (1, 4) else [width, height, largest]:
        content += b"".join(draw(GAPS)) + b"%d" % number
    content += draw(st.sampled_from([b"\n", b" ", b"#c\n", b"#c\r"]))
    count, high = height * width * (3 if kind in (3, 6) else 1), one_of([min(largest, 65535)], [255, 65535])
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, high + 1, count).tolist()
    if kind == 1:
        content += one_of([b"", b" ", b"#1\n"], []).join(b"%d" % (value % 2) for value in values)
    elif kind in (2, 3):
        content += one_of([b" ", b"\n", b"#1\n"], [b"-"]).join(b"%d" % value for value in values)
    elif kind == 4:
        content += bytes(value % 256 for value in values[: height * -(-width // 8)])
    else:
        depth = 2 if largest > 255 else 1
        content += b"".join((value % 256**depth).to_bytes(depth, "big") for value in values)
    content = content[: len(content) - one_of([0], [1, 7])]
    content += one_of([b"", b"\n"], [b"P5 1 1 255\n0", b"ab"])
    if is_odd and draw(st.booleans()):
        place = draw(st.integers(0, min(len(content), 23)))  # the end is a place, too: a cut may leave nothing
        content = content[:place] + draw(st.binary(max_size=2)) + content[place + 1 :]
    return content


def array(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8)


@given(files())
def test_any_file_equals_longhand_or_is_refused_in_one_line(content: bytes) -> None:
    if content[:1] != b"P" or content[1:2] not in b"123456" or content[2:3] not in [b"#", *map(bytes, zip(SPACES))]:
        return  # another kind of file
    try:
        expected = Longhand(content)
    except ValueError:
        for decode in (decode_image, decode_mask):
            with pytest.raises(InputError) as error:
                decode(array(content), "name", tell=lambda *_: None)
            assert "\n" not in str(error.value) and "name" in str(error.value)
        return
    shape = (expected.height, expected.width) + (3,) * (expected.channels == 3)
    image = decode_image(array(content), "name", tell=lambda *_: None)
    assert image.dtype == np.uint8 and image.shape == (expected.height, expected.width, 3)
    assert image.reshape(-1).tolist() == expected.colours()
    if expected.channels == 1 or expected.largest < 256:
        mask = decode_mask(array(content), "name", tell=lambda *_: None)
        assert mask.shape == shape and mask.reshape(-1).tolist() == expected.values


@pytest.mark.parametrize(
    ("content", "stored", "shown"),
    [
        (b"P5 3 1 15\n" + bytes([0, 7, 15]), [0, 7, 15], [0, 119, 255]),
        (b"P2 3 1 1000\n0 501 1000", [0, 501, 1000], [0, 128, 255]),
        (b"P5 3 1 1000\n" + np.array([0, 501, 1000], dtype=">u2").tobytes(), [0, 501, 1000], [0, 128, 255]),
        (b"P5 3 1 65535\n" + np.array([0, 511, 65535], dtype=">u2").tobytes(), [0, 511, 65535], [0, 1, 255]),
        (b"P6 1 1 15\n" + bytes([0, 7, 15]), [0, 7, 15], [0, 119, 255]),
        (b"P1 3 1\n011", [0, 1, 1], [255, 0, 0]),
        (b"P4 3 1\n" + bytes([0b01100000]), [0, 1, 1], [255, 0, 0]),
    ],
)
def test_images_are_scaled_and_masks_are_not(content: bytes, stored: list[int], shown: list[int]) -> None:
    assert decode_mask(array(content), "name").reshape(-1).tolist() == stored
    image = decode_image(array(content), "name")
    assert image.reshape(-1).tolist() == (shown if content.startswith(b"P6") else np.repeat(shown, 3).tolist())


@pytest.mark.parametrize("ending", [".ppm", ".pgm", ".pbm"])
def test_files_of_other_libraries_are_read_as_by_them(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (7, 9, 3) if ending == ".ppm" else (7, 9), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture = picture.convert("1", dither=Image.Dither.NONE) if ending == ".pbm" else picture
    picture.save(tmp_path / f"pillow{ending}")
    expected = np.array(picture.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / f"pillow{ending}"), expected)
    if ending != ".pbm":
        cv2.imwrite(str(tmp_path / f"opencv{ending}"), pixels[..., ::-1] if ending == ".ppm" else pixels)
        assert np.array_equal(read_image(tmp_path / f"opencv{ending}"), expected)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_what_is_written_comes_back_in_any_reader(channels: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, *channels), dtype=np.uint8)
    content = array(file_bytes(pixels))
    found = decode_mask(content, "name")
    assert np.array_equal(found, pixels) and np.shares_memory(found, content)
    theirs = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    assert np.array_equal(theirs[..., ::-1] if channels else theirs, pixels)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"P6 3 2 255\n" + bytes(17),
            "cut off: expected 18 bytes of 2 x 3 pixels (height x width), as its header says, found 17",
        ),
        (b"P6 99999999999 99999999999 255\n" + bytes(9), "cut off: expected 29,999,999,999,4"),
        (b"P5 %s 1 255\n0" % (b"9" * 5000), "expected the header"),
        (b"P5 0 3 255\n", "expected the header"),
        (b"P5 -1 3 255\n000", "expected the header"),
        (b"P5 3", "expected the header"),
        (b"P5 # never ends", "expected the header"),
        ("P5 ٣ 1 255\n000".encode(), "expected the header"),  # a digit of another script
        (b"P5 1 1 65536\n00", "expected the header"),
        (b"P5 1 1 9\n" + bytes([10]), "expected values up to 9, as its header says, found 10"),
        (b"P2 2 1 9\n5", "cut off: expected 2 numbers"),
        (b"P2 2 1 9\n5 x", "expected decimal numbers"),
        (b"P7\nWIDTH 9\nHEIGHT 9\nDEPTH 3\nMAXVAL 255\nENDHDR\n0", "not a whole image file"),
    ],
)
def test_what_lies_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(content)
    for read in (read_image, lambda path: read_label(path, 5)):
        with pytest.raises(InputError) as error:
            read(path)
        assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("behind", "said"), [(b"P6 1 1 255\n123", "several frames"), (b"\r\n", "than its header says (2 bytes)")]
)
def test_what_stands_behind_is_said_and_left_out(behind: bytes, said: str) -> None:
    remarks: list[str] = []
    image = decode_image(array(b"P6 2 1 255\n012345" + behind), "name", lambda _, text: remarks.append(text))
    assert image.tolist() == [[[48, 49, 50], [51, 52, 53]]] and len(remarks) == 1 and said in remarks[0]


def test_16_bits_that_are_dark_are_said() -> None:
    remarks: list[str] = []
    content = b"P5 2 1 65535\n" + np.array([0, 4095], dtype=">u2").tobytes()
    assert decode_image(array(content), "name", lambda _, text: remarks.append(text)).max() == 15
    assert "12 at most are used" in remarks[0]
