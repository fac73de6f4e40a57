"""Videos: their frames, and whether a file holds all that it should."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from furnace.data.remarks import decoders_heard, say_once
from furnace.engine.bars import above_bars
from furnace.errors import InputError, say_note

VIDEO = re.compile(r".*\.(?:mp4|m4v|mov|avi|mkv|webm|mpe?g|wmv|flv|3gp|ogv|m2?ts)", re.IGNORECASE | re.DOTALL)
SHARE_OF_FRAMES = 0.9  # Of a video that has fewer of the frames that it announces, something is said.
BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx meta udta uuid free skip wide pdin".split())
MATROSKA, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"

# FFmpeg prints nothing by itself: `frames` says once what is wrong with a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def announced(path: Path) -> int:
    """Returns how many frames a video announces; 0 if it does not say, or cannot be opened."""
    with decoders_heard(path):
        video = cv2.VideoCapture(str(path))
        count = _announced(video)
        video.release()
    return count


def frames(path: Path) -> Iterator[np.ndarray]:
    """Yields all frames of a video, (H, W, 3) uint8 RGB.

    Raises:
        InputError: there is none, or the file breaks off; the frames before that are yielded first.
    """
    with decoders_heard(path):
        video, found = cv2.VideoCapture(str(path)), 0
    try:
        while (frame := _next_frame(video, path)) is not None:
            found += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        expected = _announced(video)
    finally:
        video.release()
    too_few = found < SHARE_OF_FRAMES * expected
    if found == 0 or (too_few and breaks_off(path)):
        raise InputError(f"video not readable: {path}: expected {expected or 'some'} frames, found {found}; replace it")
    if too_few:  # a number made of rate and length is no promise: cut videos, or screens that stand still, have fewer
        with above_bars():
            say_note(f"{path}: announces {expected} frames, has {found}; all of them are labelled")


def _next_frame(video: cv2.VideoCapture, path: Path) -> np.ndarray | None:
    with decoders_heard(path) as damage:
        is_there, frame = video.read()
    if damage:
        say_once(path, f"damaged, the rest is shown: {damage[0]}")
    return frame if is_there else None


def _announced(video: cv2.VideoCapture) -> int:
    return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))


def breaks_off(path: Path) -> bool:
    """Whether the file ends before the last of its parts does, as the parts of AVI, MP4, MOV and Matroska tell."""
    end, place = path.stat().st_size, 0
    with open(path, "rb") as file:
        while place < end:
            file.seek(place)
            length = _length_of_part(file, end - place)
            if length <= 0:
                return False
            place += length
    return place > end


def _length_of_part(file: BinaryIO, rest: int) -> int:
    """Returns how many bytes the part that begins here should have; 0 if it does not say."""
    head = file.read(16)
    if head.startswith(b"RIFF"):  # AVI
        return 8 + int.from_bytes(head[4:8], "little")
    if head.startswith((MATROSKA, SEGMENT)):
        size = 9 - head[4].bit_length()  # bytes of the number, the first of which says how many there are
        number = int.from_bytes(head[4 : 4 + size], "big") - (1 << 7 * size)
        return 0 if number == (1 << 7 * size) - 1 else 4 + size + number  # all ones: nobody knew
    if head[4:8] in BOXES:  # MP4 and MOV
        length = int.from_bytes(head[:4], "big")
        return int.from_bytes(head[8:16], "big") if length == 1 else length or rest
    return 0
