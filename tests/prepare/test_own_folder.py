"""`prepare folder`: whatever photographs and masks are called and saved as, the right mask ends beside each image."""

import json
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import (
    ONE,
    SIZE,
    error_of,
    lines,
    mask,
    pack,
    picture,
    prepare,
    write_image,
    write_mask,
    write_palette_mask,
)
from PIL import Image

from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.images import read_image, read_label
from furnace.errors import InputError
from furnace.prepare import seen
from furnace.prepare.check import dataset_of

COUNT = 6


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a space and a plus in its path, masks of two classes, and the names of these."""
    root = tmp_path / "my photos+masks"
    for number in range(COUNT):
        write_image(root / f"images/{number}.png", number)
        write_mask(root / f"masks/{number}.png", mask(number, 2))
    (root / "classes.txt").write_text("ground\nplant\n")
    return root


def request(source: Path, *more: object) -> list[object]:
    classes = ["--classes", source / "classes.txt"]
    return ["folder", source, source.parent / "out", *([] if "--classes" in more else classes), *more, *ONE]


def pairs_of(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image and label of every entry that has both, by the image's name."""
    dataset, found = dataset_of(folder), {}
    for name in ("train", "val"):
        split = Split(dataset, folder, FileList(folder / f"{name}.txt"), name)
        found |= {split.image_path(index).name: split.labeled(index) for index in range(len(split.files))}
    return found


def test_images_and_masks_stay_together(source: Path) -> None:
    assert prepare(*request(source, "--ratios", 2)) == 0
    found = pairs_of(source.parent / "out")
    assert sorted(found) == [f"{number}.png" for number in range(COUNT)]
    for number in range(COUNT):
        image, label = found[f"{number}.png"]
        assert (image[..., ::-1] == picture(number)).all() and (label == mask(number, 2)).all()
    assert (source.parent / "out/images/0.png").resolve() == (source / "images/0.png").resolve()
    assert dataset_of(source.parent / "out").classes == ("ground", "plant")


@pytest.mark.parametrize("kind", ["grey", "16 bits", "alpha", "grey and alpha", "16 bits tiff", "palette"])
@pytest.mark.parametrize("ending", [".PNG", ".TIF"])
def test_kinds_of_images(source: Path, kind: str, ending: str) -> None:
    colour = picture(0)
    grey, alpha = colour[..., 0], mask(3, 256, None)
    palette = Image.fromarray(colour[..., ::-1]).quantize(16)
    image, expected = {
        "grey": (Image.fromarray(grey), np.dstack([grey] * 3)),
        "16 bits": (Image.fromarray(grey.astype(np.uint16) << 8 | 77), np.dstack([grey] * 3)),
        "alpha": (Image.fromarray(np.dstack([colour, alpha])), colour),
        "grey and alpha": (Image.fromarray(np.dstack([grey, alpha])), np.dstack([grey] * 3)),
        "16 bits tiff": (Image.fromarray(grey.astype(np.uint16) << 8), np.dstack([grey] * 3)),
        "palette": (palette, np.array(palette.convert("RGB"))),
    }[kind]
    image.save(source / f"images/odd{ending}")
    write_mask(source / "masks/odd.png", mask(9, 2))
    assert prepare(*request(source)) == 0
    found, label = pairs_of(source.parent / "out")[f"odd{ending}"]
    assert (found == expected).all() and (label == mask(9, 2)).all()


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "palette", "RGB of grey"])
@pytest.mark.parametrize("ending", [".png", ".TIFF", ".tif", ".PNG"])
def test_kinds_of_masks(source: Path, kind: str, ending: str) -> None:
    values, path = mask(9, 2), source / f"masks/odd{ending}"
    write_image(source / "images/odd.JPG", 9)
    if kind == "palette":
        write_palette_mask(path, values)
    else:
        Image.fromarray(
            {"8 bits": values, "16 bits": values.astype(np.uint16), "RGB of grey": np.dstack([values] * 3)}[kind]
        ).save(path)
    assert prepare(*request(source)) == 0
    assert (pairs_of(source.parent / "out")["odd.JPG"][1] == values).all()
    stored = cv2.imread(str(source.parent / "out/labels/odd.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8 and (stored == values).all()


def test_a_turned_photograph_lies_on_its_mask(source: Path) -> None:
    """EXIF's orientation 6: stored on its side, masks are drawn on what a viewer shows."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture(9)).save(source / "images/turned.jpg", exif=exif, quality=100)
    values = np.rot90(mask(9, 2), -1)  # (W, H)
    write_mask(source / "masks/turned.png", np.ascontiguousarray(values))
    assert prepare(*request(source)) == 0
    image, label = pairs_of(source.parent / "out")["turned.jpg"]
    assert image.shape[:2] == label.shape == SIZE[::-1] and (label == values).all()


NAMES = ["two words", "Ünï 森", " led by one", "a.b.c", "50%", "{ratio}", "-dash", "#1", "a=b", "a, b"]


@pytest.mark.parametrize("name", NAMES)
def test_names(source: Path, name: str) -> None:
    write_image(source / f"images/{name}.png", 9)
    write_mask(source / f"masks/{name}.png", mask(9, 2))
    write_image(source / f"images/{name} alone.png", 10)
    assert prepare(*request(source, "--ratios", 2)) == 0
    folder = source.parent / "out"
    image, label = pairs_of(folder)[f"{name}.png"]
    assert (image[..., ::-1] == picture(9)).all() and (label == mask(9, 2)).all()
    unlabeled = Split(dataset_of(folder), folder, FileList(folder / "unlabeled_1-2.txt"), "train")
    assert (unlabeled.image(len(unlabeled.files) - 1)[..., ::-1] == picture(10)).all()


@pytest.mark.parametrize("name", [b"a\tb", b"a\nb", b"a.png b", b"latin1 \xe9"])
@pytest.mark.parametrize("with_mask", [True, False])
def test_names_that_no_list_can_hold(source: Path, capfd: pytest.CaptureFixture, name: bytes, with_mask: bool) -> None:
    for part in ("images", "masks") if with_mask else ("images",):
        path = source / part / (name + b".png").decode(errors="surrogateescape")
        path.write_bytes((source / part / "0.png").read_bytes())
    assert "name not usable in a list" in error_of(capfd, *request(source))
    assert not (source.parent / "out.partial").exists()


def test_a_mask_in_another_encoding_that_has_no_image(source: Path, capfd: pytest.CaptureFixture) -> None:
    """It is a warning, which the record must be able to hold."""
    (source / "masks" / b"\xe9.png".decode(errors="surrogateescape")).write_bytes(b"")
    assert prepare(*request(source)) == 0
    record = json.loads((source.parent / "out/prepared.json").read_text(encoding="utf-8"))
    assert record["warnings"] == ["masks without an image: 1: \udce9"]
    assert prepare(*request(source)) == 0 and "nothing to do" in capfd.readouterr().out


def test_letters_composed_of_two_signs(source: Path) -> None:
    """As macOS stores names: `u` and a diaeresis."""
    write_image(source / f"images/{unicodedata.normalize('NFD', 'ü')}.png", 9)
    write_mask(source / "masks/ü.png", mask(9, 2))
    assert prepare(*request(source)) == 0
    assert (pairs_of(source.parent / "out")["ü.png"][1] == mask(9, 2)).all()


@pytest.mark.parametrize(("place", "option"), [("all", "all"), ("", "."), ("", "")])
def test_masks_beside_their_images(tmp_path: Path, source: Path, place: str, option: str) -> None:
    """In one folder, or in SOURCE itself; masks are no unlabelled images then."""
    root = tmp_path / "beside"
    for number in range(COUNT):
        write_image(root / place / f"{number}.jpg", number)
        write_mask(root / place / f"{number}_mask.png", mask(number, 2))
    beside = ["--images", option, "--masks", option, "--mask-ending", "_mask"]
    assert prepare(*request(root, "--classes", source / "classes.txt", *beside)) == 0
    assert len(pairs_of(tmp_path / "out")) == COUNT and not (tmp_path / "out/unlabeled.txt").exists()


def test_a_mask_named_by_the_ending_alone_belongs_to_no_image(source: Path, tmp_path: Path) -> None:
    for path in (source / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    write_mask(source / "masks/_mask.png", mask(9, 2))
    assert prepare(*request(source, "--mask-ending", "_mask")) == 0
    assert len(pairs_of(tmp_path / "out")) == COUNT


def test_folders_train_and_val_part_the_images(source: Path) -> None:
    for part, numbers in (("train", range(4)), ("val", range(4, COUNT))):
        for number in numbers:
            for kind in ("images", "masks"):
                (source / kind / part).mkdir(exist_ok=True)
                (source / kind / f"{number}.png").rename(source / kind / part / f"{number}.png")
    assert prepare(*request(source)) == 0
    assert lines(source.parent / "out/val.txt") == [
        f"/images/val/{number}.png\t/labels/val/{number}.png" for number in (4, 5)
    ]


def test_links_that_lead_round_are_followed_once(source: Path) -> None:
    (source / "images/round").symlink_to(source / "images")
    (source / "images/other").symlink_to(source / "images/round/round", target_is_directory=True)
    assert prepare(*request(source)) == 0
    assert not (source.parent / "out/unlabeled.txt").exists()


@pytest.mark.parametrize("folder", ["/tmp", "../images", "im*", "nowhere"])
def test_folders_that_are_none(source: Path, capfd: pytest.CaptureFixture, folder: str) -> None:
    message = error_of(capfd, *request(source, "--images", folder))
    assert folder in message and "expected" in message
    assert not (source.parent / "out.partial").exists()


def test_values_and_colours_of_a_classes_file(source: Path) -> None:
    (source / "classes.csv").write_text(
        "name,value,red,green,blue\nground,7,0,0,0\nplant,300,0,160,0\nignored,9,1,1,1\n"
    )
    values, indices = np.array([7, 300, 9, 40], dtype=np.uint16), np.array([0, 1, 255, 255], dtype=np.uint8)
    colours = np.array([(0, 0, 0), (0, 160, 0), (1, 1, 1)], dtype=np.uint8)
    for number in range(COUNT):
        drawn = mask(number, 3 if number == 0 else 4, None)
        content = colours[drawn][..., ::-1] if number == 0 else values[drawn]
        write_mask(source / f"masks/{number}.png", content)
    assert prepare(*request(source, "--classes", source / "classes.csv", "--ignore", 40)) == 0
    for number in range(COUNT):
        expected = indices[mask(number, 3 if number == 0 else 4, None)]
        assert (read_label(source.parent / f"out/labels/{number}.png", 2) == expected).all()
    assert dataset_of(source.parent / "out").palette == ((0, 0, 0), (0, 160, 0))


def test_masks_made_by_another_classes_file_are_not_gone_on_with(source: Path, capfd: pytest.CaptureFixture) -> None:
    """A line that is put between others gives the values behind it another meaning."""
    write_mask(source / "masks/5.png", np.full(SIZE, 2, dtype=np.uint8))
    assert "has the value 2" in error_of(capfd, *request(source))
    (source / "classes.txt").write_text("ground\nstone\nplant\n")
    assert "begun for another request (with another --classes); remove" in error_of(capfd, *request(source))


def test_copied_images_are_no_links(source: Path) -> None:
    assert prepare(*request(source, "--files", "copy")) == 0
    image = source.parent / "out/images/0.png"
    assert not image.is_symlink() and (read_image(image)[..., ::-1] == picture(0)).all()


def export(source: Path, first: int, *bad: int) -> None:
    """Writes all images and masks anew, from those of number `first` on; the masks `bad` hold what is no class."""
    for number in range(COUNT):
        write_image(source / f"images/{number}.png", number + first)
        values = np.full(SIZE, 7, dtype=np.uint8) if number in bad else mask(number + first, 2, None)
        write_mask(source / f"masks/{number}.png", values)


@pytest.mark.parametrize("files", ["link", "copy", "decoded"])
@pytest.mark.parametrize("packed", ["", ".zip", ".tgz"])
def test_what_was_exported_again_is_placed_anew(
    source: Path, capfd: pytest.CaptureFixture, files: str, packed: str
) -> None:
    """Masks and images that the first try placed are those of an export that is there no more."""
    place, folder = source.with_name(f"{source.name}{packed}"), source.parent / "out"
    asked = ["folder", place, folder, "--files", files, *ONE]
    export(source, 10, COUNT - 1)
    if packed:
        pack(source, place)
    assert "the value 7" in error_of(capfd, *asked)
    assert any((source.parent / "out.partial/labels").iterdir())
    export(source, 0)
    if packed:
        pack(source, place)
    assert prepare(*asked) == 0
    for name, (image, label) in pairs_of(folder).items():
        number = int(Path(name).stem)
        assert (image[..., ::-1] == picture(number)).all() and (label == mask(number, 2, None)).all()


def test_masks_of_other_values_are_counted(source: Path, capfd: pytest.CaptureFixture, monkeypatch) -> None:
    export(source, 0, 1, 2, 4)
    message = error_of(capfd, *request(source))
    assert (
        "masks cannot be taken: 3, the first: mask holds what is no class: " in message and "has the value 7" in message
    )
    assert len(list((source.parent / "out.partial/labels").iterdir())) == COUNT - 3
    monkeypatch.setattr(seen, "MANY", 2)
    assert "masks cannot be taken: 2 or more, the first" in error_of(capfd, *request(source))


def test_a_mask_of_an_earlier_try_is_compared_with_its_new_image(source: Path, capfd: pytest.CaptureFixture) -> None:
    export(source, 0, COUNT - 1)
    assert "the value 7" in error_of(capfd, *request(source))
    write_mask(source / f"masks/{COUNT - 1}.png", mask(0, 2))
    cv2.imwrite(str(source / "images/0.png"), picture(0)[:5])
    assert "masks do not fit their images: 1" in error_of(capfd, *request(source))


@pytest.mark.parametrize("packed", ["", ".zip", ".tgz"])
def test_new_and_other_masks_are_not_passed_over(source: Path, capfd: pytest.CaptureFixture, packed: str) -> None:
    """More masks are drawn, or one is drawn again, once a folder is made."""
    place = source.with_name(f"{source.name}{packed}")
    request = ["folder", place, source.parent / "out", *ONE]

    def changed(number: int) -> str:
        write_image(source / f"images/{number}.png", number)
        write_mask(source / f"masks/{number}.png", mask(number, 2))
        if packed:
            pack(source, place)
        return error_of(capfd, *request)

    if packed:
        pack(source, place)
    assert prepare(*request) == 0
    (source / "masks/notes.docx").write_text("not read")
    assert prepare(*request) == 0 and "nothing to do" in capfd.readouterr().out
    counts = (1, 1) if packed else (2 * COUNT + 2, 2 * COUNT)
    told = f"{place} holds other images or masks than when {source.parent / 'out'} was made "
    assert told + "({} files now, {} then); remove".format(*counts) in changed(COUNT)
    assert told in changed(0)
    assert len(pairs_of(source.parent / "out")) == COUNT


def test_a_folder_that_was_made_without_a_note_of_its_source_is_complete(source: Path, capfd) -> None:
    assert prepare(*request(source)) == 0
    record = source.parent / "out/prepared.json"
    record.write_text(json.dumps({"request": json.loads(record.read_text())["request"]}))
    write_mask(source / "masks/new.png", mask(9, 2))
    assert prepare(*request(source)) == 0 and "nothing to do" in capfd.readouterr().out


@pytest.mark.parametrize("files", ["link", "decoded"])
def test_lists_of_bare_names(source: Path, files: str) -> None:
    """The commonest ending of images is meant; parts are folders."""
    write_image(source / "images/odd.jpg", 9)
    write_mask(source / "masks/odd.png", mask(9, 2))
    for kind in ("images", "masks"):
        (source / kind / "site 1").mkdir()
        (source / kind / "3.png").rename(source / kind / "site 1/3.png")
    assert prepare(*request(source, "--files", files)) == 0
    folder = source.parent / "out"
    (folder / "mine.txt").write_text("0\nsite 1/3\n")
    split = Split(dataset_of(folder), folder, FileList(folder / "mine.txt"), "train")
    for index, number in enumerate((0, 3)):
        image, label = split.labeled(index)
        assert (image[..., ::-1] == picture(number)).all() and (label == mask(number, 2)).all()


def test_a_bare_name_of_another_ending_is_said(source: Path) -> None:
    write_image(source / "images/odd.jpg", 9)
    assert prepare(*request(source)) == 0
    (source.parent / "out/mine.txt").write_text("odd\n")
    split = Split(
        dataset_of(source.parent / "out"), source.parent / "out", FileList(source.parent / "out/mine.txt"), ""
    )
    with pytest.raises(InputError, match=r"images/odd.png: named by .*: 'odd', which is a name alone; write paths"):
        split.check_files(with_labels=False)
