"""What a file's bytes say about it without being decoded: which kind of file it is, and whether it is all there."""

from io import BytesIO

import numpy as np

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", 0xDA, b"\xff\xd9"
PNG_START, PNG_END, PNG_HEADER, PNG_PIXELS, PNG_ANIMATION = b"\x89PNG", b"IEND", 8, b"IDAT", b"acTL"
PNG_PALETTE, PNG_GREY, PNG_GREY_ALPHA = 3, 0, 4
AVIF_STARTS = (b"ftypavif", b"ftypavis")  # behind four bytes
TAIL = 8  # bytes: a PNG's end marker, and the checksum behind it
EXIF, EXIF_WITHIN, EXIF_ORIENTATION = b"Exif\0\0", 4096, 274
UPRIGHT, SAME_SIZE = 1, (2, 3, 4)  # EXIF orientations: as stored; mirrored, or turned by 180 degrees
WEBP_EXTENDED, WEBP_LOSSY = b"WEBPVP8X", b"WEBPVP8 "
WEBP_HAS_EXIF, WEBP_IS_ANIMATED = 0b1000, 0b10  # bits of the flags

# What is found in place of an image, by where in the file certain bytes lie, and what helps.
CONVERT = "convert it to JPEG or PNG"
OTHER_KINDS = (
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file", "fetch it with `git lfs pull`"),
    (0, b"<", "a web page or a drawing (HTML, XML, SVG)", "download the image itself"),
    (4, b"ftyp", "a HEIC photograph or a video", CONVERT),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image", CONVERT),
    (0, b"\xff\x0a", "a JPEG XL image", CONVERT),
    (0, b"8BPS", "a Photoshop file", CONVERT),
    (0, b"v/1\x01", "an OpenEXR image", CONVERT),
    (128, b"DICM", "a DICOM file", CONVERT),
    (344, b"n+1\0", "a NIfTI file", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", CONVERT),
    (0, b"\x89HDF", "an HDF5 file", CONVERT),
    (0, b"\x1aE\xdf\xa3", "a video", CONVERT),
    (0, b"%PDF", "a PDF", CONVERT),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
)


def other_kind(content: np.ndarray) -> tuple[str, str] | None:
    """Returns what a file is that is not read, and what helps; None if its bytes (uint8) say nothing of that."""
    if len(content) and not content.any():
        return "zero bytes alone, as after a power cut", "replace it"
    if is_avif(content):
        return None
    head = content[:400].tobytes()
    return next(((kind, remedy) for place, mark, kind, remedy in OTHER_KINDS if head[place:].startswith(mark)), None)


def starts_with(content: np.ndarray, starts: tuple[bytes, ...], place: int = 0) -> bool:
    """Whether one of `starts`, of eight bytes at most, lies at `place` in a file's bytes."""
    return content[place : place + 8].tobytes().startswith(starts)


def is_avif(content: np.ndarray) -> bool:
    """Whether the file is an AVIF image."""
    return starts_with(content, AVIF_STARTS, place=4)


def png_colour(content: np.ndarray) -> int | None:
    """Returns the colour type in a PNG's header, or None if the file is no PNG."""
    return int(content[25]) if len(content) > 25 and starts_with(content, (PNG_START,)) else None


def png_bits(content: np.ndarray) -> int:
    """Returns how many bits each value of a PNG has; 8 if the file is no PNG."""
    return int(content[24]) if png_colour(content) is not None else 8


def lossy_hint(content: bytes | np.ndarray) -> str:
    """Returns what to add to words about a mask whose packing changes values; "" for one that keeps them."""
    head = bytes(content[:16])
    kind = "JPEG" if head.startswith(JPEG_START) else "WebP" if head[8:] == WEBP_LOSSY else None
    return f" (a {kind}, whose packing changes values: save masks as PNG)" if kind else ""


def webp_flags(content: np.ndarray) -> int:
    """Returns the flags that say what a WebP holds beside pixels; 0 if the file is no WebP, or one of pixels alone."""
    return int(content[20]) if len(content) > 20 and starts_with(content, (WEBP_EXTENDED,), place=8) else 0


def is_animated_png(content: np.ndarray) -> bool:
    """Whether the file is a PNG of several frames."""
    if png_colour(content) is None:
        return False
    place, kind = PNG_HEADER, b""
    while place + 8 <= len(content) and kind not in (PNG_PIXELS, PNG_ANIMATION):
        kind = content[place + 4 : place + 8].tobytes()
        place += 12 + int.from_bytes(content[place : place + 4].tobytes(), "big")
    return kind == PNG_ANIMATION


def exif_turn(content: np.ndarray) -> int:
    """Returns how a JPEG's EXIF tag turns or mirrors it, 1 to 8; UPRIGHT if it does not, or has none."""
    if not starts_with(content, (JPEG_START,)) or EXIF not in content[:EXIF_WITHIN].tobytes():
        return UPRIGHT
    from PIL import Image

    try:
        return int(Image.open(BytesIO(content.tobytes())).getexif().get(EXIF_ORIENTATION, UPRIGHT))
    except Exception:  # whatever a damaged tag makes Pillow raise
        return UPRIGHT


def is_broken_off(content: np.ndarray) -> bool:
    """Whether a JPEG or PNG breaks off, that is, lacks its end marker: OpenCV before 5 invents the missing rest."""
    tail = content[-TAIL:].tobytes()  # where the marker should be; few files have more behind it
    if starts_with(content, (JPEG_START,)):
        start = _scan_start(content.data)
        is_last = tail.endswith(JPEG_END) and start <= len(content) - len(JPEG_END)
        return not is_last and content[start:].tobytes().rfind(JPEG_END) < 0
    return starts_with(content, (PNG_START,)) and PNG_END not in tail and content.tobytes().rfind(PNG_END) < 0


def _scan_start(file: memoryview) -> int:
    """Returns where a JPEG's pixels begin, behind its headers: a thumbnail in those has an end marker of its own."""
    place = len(JPEG_START)
    while place + 3 < len(file) and file[place] == 0xFF and file[place + 1] != JPEG_SCAN:
        filler = file[place + 1] == 0xFF
        place += 1 if filler else 2 + int.from_bytes(file[place + 2 : place + 4], "big")
    return place
