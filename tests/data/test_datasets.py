"""List lines lead to the right files, images and labels decode to what they hold, and bad ones are named."""

import json
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from furnace.data.datasets import CAMVID, CITYSCAPES, VOC, voc_palette
from furnace.data.declaration import read_declaration
from furnace.data.decoding import decode_mask
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.images import read_image, read_label
from furnace.data.kinds import is_broken_off
from furnace.errors import InputError


def split_of(root: Path, lines: Sequence[str]) -> Split:
    for name in ("images", "labels", "my images", "my labels", "x", "y", "bücher"):
        (root / name).mkdir(exist_ok=True)
    (root / "list.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Split(VOC, root, FileList(root / "list.txt"), "train_aug")


def random_label(high: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (12, 17)).astype(dtype)


def smooth_image(height: int = 40, width: int = 60) -> np.ndarray:
    noise = np.random.default_rng(1).uniform(0, 255, (height, width, 3)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def write_grey_png(path: Path, label: np.ndarray, bits: int) -> None:
    """A greyscale PNG of 1, 2 or 4 bits a pixel, which no library at hand writes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", label.shape[1], label.shape[0], bits, 0, 0, 0, 0)
    rows = np.packbits(np.unpackbits(label[..., None], axis=2)[..., -bits:].reshape(len(label), -1), axis=1)
    pixels = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize(
    ("line", "image", "label"),
    [
        ("2007_000032", "train_aug/image/2007_000032.jpg", "train_aug/label/2007_000032.png"),
        ("my photo", "train_aug/image/my photo.jpg", "train_aug/label/my photo.png"),
        ("/images/a.png\t/labels/a_gtFine.png", "images/a.png", "labels/a_gtFine.png"),
        ("images/a.png\tlabels/a.png", "images/a.png", "labels/a.png"),
        ("/my images/a 1.jpg\t/my labels/a 1.png", "my images/a 1.jpg", "my labels/a 1.png"),
        ("a.jpg \t b.png", "a.jpg", "b.png"),
        ("a.jpg b.png", "a.jpg", "b.png"),
        ("/x/a.jpg /y/b.png", "x/a.jpg", "y/b.png"),
        ("bücher/圖.jpg\tя.png", "bücher/圖.jpg", "я.png"),
        ("x/my photo.v1 2.JPG y/my photo.v1 2.PNG", "x/my photo.v1 2.JPG", "y/my photo.v1 2.PNG"),
        ("x/a.jpg  y/b.tiff", "x/a.jpg", "y/b.tiff"),
        ("frame.0001", "train_aug/image/frame.0001.jpg", "train_aug/label/frame.0001.png"),
        ("JPEGImages/a.jpg SegmentationClass/a.png", "train_aug/image/a.jpg", "train_aug/label/a.png"),
        ("/JPEGImages/a.jpg\t/SegmentationClassAug/a.png", "train_aug/image/a.jpg", "train_aug/label/a.png"),
        ("JPEGImages/a.jpg", "train_aug/image/a.jpg", "train_aug/label/a.png"),
        ("VOCdevkit/VOC2012/JPEGImages/a.jpg", "train_aug/image/a.jpg", "train_aug/label/a.png"),
        ("./images/a.jpg labels/a.png", "images/a.jpg", "labels/a.png"),
        ("other/a.jpg\tother/a.png", "other/a.jpg", "other/a.png"),  # not there: that is said, and nothing is guessed
        ("/a.jpg\t/b.png", "a.jpg", "b.png"),
    ],
)
def test_line_forms(tmp_path: Path, line: str, image: str, label: str) -> None:
    split = split_of(tmp_path, ["first", line])
    assert split.image_path(1) == tmp_path / image
    assert split.label_path(1) == tmp_path / label


@pytest.mark.parametrize("line", ["/images/a.jpg", "my photo.jpg", "1.a 2.b 3.jpg", "/images/a.jpg\t"])
def test_an_image_alone_serves_unlabelled_lists_only(tmp_path: Path, line: str) -> None:
    split = split_of(tmp_path, ["first", line])
    assert split.image_path(1) == tmp_path / line.strip().lstrip("/")
    with pytest.raises(InputError, match=r"list\.txt: entry 2 names no label: .*expected image<TAB>label"):
        split.label_path(1)


@pytest.mark.parametrize("image", ["/elsewhere/image/a.jpg", "/home/me/VOC2012/JPEGImages/a.jpg", "/a b/c.jpg"])
def test_an_absolute_path_is_that_file(tmp_path: Path, image: str) -> None:
    split = split_of(tmp_path, [f"{image}\t/labels/a.png", f"{image}\t/elsewhere/a.png", f"{tmp_path}/x/b.jpg"])
    assert split.image_path(0) == split.image_path(1) == Path(image)
    assert split.label_path(0) == tmp_path / "labels/a.png" and split.label_path(1) == Path("/elsewhere/a.png")
    assert split.image_path(2) == tmp_path / "x/b.jpg"
    assert split.name_of(2) == ("x", "b") and split.name_of(0) == Path(image[1:]).with_suffix("").parts


def test_images_of_the_same_names_do_not_stand_in_for_an_absolute_path(tmp_path: Path) -> None:
    split = split_of(tmp_path, ["/elsewhere/images/a.jpg"])
    for folder in ("images", "train_aug/image"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / "a.jpg"), smooth_image())
    with pytest.raises(
        InputError, match=r"file not found: /elsewhere/images/a\.jpg: named by entry 1 of .*list\.txt: '/e"
    ):
        split.check_files(with_labels=False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("image,label", "table's header"),
        ("filename\tmask", "table's header"),
        ("images/a.jpg,labels/a.png", "comma or semicolon"),
        ("images/a.jpg; labels/a.png", "comma or semicolon"),
        ('"images/a.jpg"\t"labels/a.png"', "is in quotes"),
        ("images\\a.jpg\tlabels\\a.png", "path of Windows"),
        ("C:/data/a.jpg\tC:/data/a.png", "path of Windows"),
        ("# images that train", "looks like a comment"),
        ("a.jpg\rb.jpg\rc.jpg", "old Macintoshes"),
    ],
)
def test_a_list_of_nearly_another_form_is_refused_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InputError, match="file not found: ") as error:
        split_of(tmp_path, [line]).check_files(with_labels=False)
    assert f"entry 1 of {tmp_path}/list.txt: {line!r}, which " in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("how", [OSError(36, "File name too long"), PermissionError(13, "Permission denied")])
def test_a_file_that_the_system_does_not_let_us_see_is_not_there(tmp_path: Path, how: OSError, monkeypatch) -> None:
    """Python before 3.14 raises what the system says."""
    split = split_of(tmp_path, ["x/a.jpg"])

    def is_file(path: Path) -> bool:
        raise how

    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(InputError, match=r"file not found: .*x/a\.jpg"):
        split.check_files(with_labels=False)


def test_a_third_column_is_refused(tmp_path: Path) -> None:
    split = split_of(tmp_path, ["a.jpg\ta.png\t0.5"])
    with pytest.raises(InputError, match=r"list\.txt: entry 1 has 3 columns: 'a\.jpg"):
        split.image_path(0)


@pytest.mark.parametrize("name", ["a,b.jpg", "#1.jpg", '"q".jpg', "a\\b.jpg"])
def test_odd_names_of_files_that_are_there_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    split_of(tmp_path, [name]).check_files(with_labels=False)


def test_image_is_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (250, 100, 0)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    assert image.reshape(-1, 3).tolist() == [[250, 100, 0]] * 6


@pytest.mark.parametrize(
    ("mode", "value", "rgb"), [("L", 7, 7), ("RGBA", (9, 9, 9, 0), 9), ("I;16", 9 * 257, 9), ("1", 1, 255)]
)
def test_other_kinds_of_images_become_rgb(tmp_path: Path, mode: str, value: object, rgb: int) -> None:
    Image.new(mode, (4, 3), value).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == np.full((3, 4, 3), rgb)).all()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 100}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (60, 40))]}),
    ],
)  # fmt: skip
def test_images_and_masks_are_turned_as_their_exif_tag_says(tmp_path: Path, form: str, options: dict) -> None:
    stored, exif = smooth_image(), Image.Exif()
    exif[274] = 6  # a viewer turns it clockwise
    path = tmp_path / "a.jpg"
    Image.fromarray(stored).save(path, form, exif=exif, **options)
    upright = np.rot90(stored, -1)  # (60, 40, 3)
    for found in (read_image(path), decode_mask(np.fromfile(path, np.uint8), path)):
        assert found.shape == upright.shape and np.abs(found.astype(int) - upright).mean() < 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_holds_indices(tmp_path: Path, dtype: type) -> None:
    expected = random_label(5, dtype)
    expected[0] = 255
    cv2.imwrite(str(tmp_path / "a.png"), expected)
    label = read_label(tmp_path / "a.png", 5)
    assert label.dtype == np.uint8 and (label == expected).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_label_gives_indices(tmp_path: Path, bits: int) -> None:
    """VOC's own masks are palette PNGs."""
    expected = random_label(2**bits if bits < 8 else 21)
    picture = Image.fromarray(expected, mode="P")
    picture.putpalette(np.array(voc_palette(256), dtype=np.uint8).tobytes())
    picture.save(tmp_path / "a.png", bits=bits)
    assert (read_label(tmp_path / "a.png", 21) == expected).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_label_of_few_bits_gives_indices(tmp_path: Path, bits: int) -> None:
    """Decoders stretch such PNGs to 0..255: class 1 of a mask with one bit would become 255, ignored."""
    expected = random_label(2**bits)
    write_grey_png(tmp_path / "a.png", expected, bits)
    assert (read_label(tmp_path / "a.png", 2**bits) == expected).all()


def test_colour_label_is_refused(tmp_path: Path) -> None:
    for mode in ("RGB", "RGBA"):
        Image.new(mode, (4, 4), (128, 0, 0)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"label is a colour image: .*a\.png: .*, found RGB; convert"):
            read_label(tmp_path / "a.png", 21)


@pytest.mark.parametrize(("value", "dtype"), [(5, np.uint8), (254, np.uint8), (256, np.uint16), (1000, np.uint16)])
def test_label_value_outside_the_classes_is_named(tmp_path: Path, value: int, dtype: type) -> None:
    label = random_label(5, dtype)
    label[3, 4] = value
    cv2.imwrite(str(tmp_path / "a.png"), label)
    with pytest.raises(InputError, match=rf"a\.png holds {value}; expected 0 to 4 or 255"):
        read_label(tmp_path / "a.png", 5)


def test_a_label_of_fractions_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), np.full((3, 4), 0.5, dtype=np.float32))
    with pytest.raises(InputError, match=r"label holds no whole numbers: .*a\.tiff"):
        read_label(tmp_path / "a.tiff", 5)


@pytest.mark.parametrize("read", [read_image, lambda path: read_label(path, 5)])
@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "No such file"), (b"", "0 bytes"), (b"not an image", "12 bytes"), (b"\x89PNG\r\n\x1a\n", "8 bytes")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, read, content: bytes | None, found: str) -> None:
    path = tmp_path / "ä b.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(path) in str(error.value) and found in str(error.value)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_named(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"a{ending}"
    whole = cv2.imencode(ending, smooth_image(200, 300))[1].tobytes()
    path.write_bytes(whole)
    assert read_image(path).shape == (200, 300, 3)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=rf"image not readable: .*a\{ending}: not a whole image file"):
        read_image(path)


def test_a_jpeg_that_breaks_off_behind_its_thumbnail_is_not_whole(tmp_path: Path) -> None:
    """The thumbnail in its headers ends as a whole file does."""
    content = cv2.imencode(".jpg", smooth_image())[1].tobytes()
    thumbnail = content[:300] + b"\xff\xd9"
    head = b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    (tmp_path / "a.jpg").write_bytes(head + content[2:])
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)
    (tmp_path / "a.jpg").write_bytes(head)
    assert is_broken_off(np.frombuffer(head, dtype=np.uint8))
    with pytest.raises(InputError, match="not a whole image file"):
        read_image(tmp_path / "a.jpg")


def test_a_jpeg_with_more_behind_it_is_whole(tmp_path: Path) -> None:
    """Telephones append a film to a photograph."""
    content = cv2.imencode(".jpg", smooth_image())[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(content + bytes(100_000))
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)


def test_a_truncated_palette_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(random_label(21), mode="P").save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"a\.png"):
        read_label(path, 21)


def test_sizes_that_differ_name_both_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), smooth_image(12, 18))
    cv2.imwrite(str(tmp_path / "b.png"), random_label(5))
    with pytest.raises(InputError) as error:
        split_of(tmp_path, ["a.png\tb.png"]).labeled(0)
    for fragment in (f"{tmp_path}/a.png is 12 x 18", f"{tmp_path}/b.png is 12 x 17", "list.txt"):
        assert fragment in str(error.value)


def test_labeled_gives_the_pair(tmp_path: Path) -> None:
    expected_image, expected_label = smooth_image(12, 17), random_label(5)
    cv2.imwrite(str(tmp_path / "a.png"), expected_image[..., ::-1])
    cv2.imwrite(str(tmp_path / "b.png"), expected_label)
    image, label = split_of(tmp_path, ["a.png\tb.png"]).labeled(0)
    assert (image == expected_image).all() and (label == expected_label).all()


def test_check_files_names_the_missing_file_and_its_entry(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        (tmp_path / name).touch()
    split = split_of(tmp_path, ["a.jpg\ta.png", "b.jpg\tb.png"])
    split.check_files(with_labels=False)
    with pytest.raises(InputError, match=rf"file not found: {tmp_path}/b\.png: named by entry 2 of .*list\.txt"):
        split.check_files(with_labels=True)


def test_check_files_samples_a_long_list_from_end_to_end(tmp_path: Path) -> None:
    lines = [f"{number}.jpg" for number in range(50)]
    for line in lines[1:-1]:
        (tmp_path / line).touch()
    for absent in (0, 49):
        others = lines[49] if absent == 0 else lines[0]
        (tmp_path / others).touch()
        with pytest.raises(InputError, match=rf"/{absent}\.jpg: named by entry {absent + 1} of"):
            split_of(tmp_path, lines).check_files(with_labels=False, at_most=5)
        (tmp_path / others).unlink()


@pytest.mark.parametrize("count", [1, 2, 7, 999])
def test_check_files_looks_at_every_entry_of_a_short_list(tmp_path: Path, count: int, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(Path, "is_file", lambda path: path.suffix == ".txt" or seen.append(path.name) or True)
    split_of(tmp_path, [f"{number}.jpg" for number in range(count)]).check_files(with_labels=False)
    assert seen == [f"{number}.jpg" for number in range(count)]


def test_voc_palette_is_the_official_one() -> None:
    assert voc_palette(22) == (
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
        (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
        (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
        (128, 64, 128),
    )  # fmt: skip
    assert voc_palette(256)[255] == (224, 224, 192) and len(set(voc_palette(256))) == 256


@pytest.mark.parametrize(("dataset", "classes"), [(VOC, 21), (CITYSCAPES, 19), (CAMVID, 11)])
def test_declarations(dataset, classes: int) -> None:
    assert dataset.num_classes == len(set(dataset.palette)) == len(set(dataset.classes)) == classes
    assert "{ratio}" in dataset.labeled_list and "{ratio}" in dataset.unlabeled_list


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("train", "/data/train.txt"),
        ("val", ""),
        ("val", "."),
        ("val", "val_{ratio}.txt"),
        ("labeled", "labeled.txt"),
        ("labeled", "{name}_{ratio}.txt"),
        ("unlabeled", "{ratio}/{ratio}.txt"),
    ],
)
def test_a_declared_list_that_cannot_be_one_is_named(tmp_path: Path, role: str, path: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["a", "b"], "lists": {role: path}}))
    with pytest.raises(
        InputError, match=rf"dataset.json: expected the {role} list to be .*, found '{re.escape(path)}'"
    ):
        read_declaration(tmp_path)


@pytest.mark.parametrize("path", ["/images/{name}.jpg", "images/a.jpg", "{name}/{name}.jpg", "{ratio}/{name}.jpg", 1])
def test_files_of_names_that_cannot_be_some_are_named(tmp_path: Path, path: object) -> None:
    files = {"image": path, "label": "labels/{name}.png"}
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["a", "b"], "files": files}))
    with pytest.raises(InputError, match=rf"expected files to be paths .*, found {re.escape(repr(path))}; mend it"):
        read_declaration(tmp_path)


def test_one_class_is_refused() -> None:
    """Whatever a network says would be right, and its mean IoU 100."""
    with pytest.raises(InputError, match=r"expected two classes or more, found 'dog' alone: .*give what is around it"):
        replace(VOC, classes=("dog",), palette=((0, 0, 0),))


def test_a_declaration_without_a_colour_for_each_class_is_refused() -> None:
    with pytest.raises(InputError, match="data set voc: 21 classes but 20 colours"):
        replace(VOC, palette=VOC.palette[:20])
