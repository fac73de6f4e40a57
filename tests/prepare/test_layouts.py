"""Forms of own data: parts named by folders, endings, what is left out, and what is nearly a form and refused."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import ONE, SIZE, error_of, lines, mask, pack, picture, prepare, write_image, write_mask
from PIL import Image

from furnace.data.images import read_image, read_label
from furnace.prepare import own

NAMES = ["--classes", "ground,plant"]


def take(source: Path, *more: object) -> int:
    return prepare("folder", source, source.parent / "out", *([] if "--classes" in more else NAMES), *more, *ONE)


def refused(capfd: pytest.CaptureFixture, source: Path, *more: object) -> str:
    message = error_of(capfd, "folder", source, source.parent / "out", *NAMES, *more, *ONE)
    assert not (source.parent / "out").exists()
    return message


def add(source: Path, image: str, label: str | None, number: int) -> None:
    write_image(source / image, number)
    if label:
        write_mask(source / label, mask(number, 2, None))


def listed(source: Path, name: str) -> list[str]:
    """The images of a list, without the folder that all are in."""
    path = source.parent / f"out/{name}.txt"
    return [line.split("\t")[0].removeprefix("/images/") for line in lines(path)] if path.exists() else []


PLACES = {
    "images, then the part": ("images/{part}/{name}.jpg", "masks/{part}/{name}.png"),
    "the part, then images": ("{part}/images/{name}.jpg", "{part}/masks/{name}.png"),
    "wrapped, and in other words": ("export/{part}/img/{name}.jpg", "export/{part}/label/{name}.png"),
    "train_labels": ("{part}/{name}.jpg", "{part}_labels/{name}.png"),
    "masks beside": ("{part}/{name}.jpg", "{part}/{name}_mask.png"),
    "below a site": ("images/site/{part}/{name}.jpg", "masks/site/{part}/{name}_label.png"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "parts", [("train", "val", "test"), ("Training", "Validation", "testing"), ("train2017", "dev")]
)
def test_folders_decide_which_images_validate(
    tmp_path: Path, capfd: pytest.CaptureFixture, place: str, parts: tuple[str, ...]
) -> None:
    source, (image, label) = tmp_path / "source", PLACES[place]
    if place == "train_labels" and parts[0] == "train2017":
        parts = ("train_images", "val_images")
        label = label.replace("{part}", "{plain}")
    for number in range(8):
        part = parts[min(number // 4, len(parts) - 1)] if number < 6 else parts[-1]
        plain = part.removesuffix("_images")
        add(source, image.format(part=part, name=number), label.format(part=part, name=number, plain=plain), number)
    add(source, image.format(part=parts[0], name="alone"), None, 9)
    assert take(source) == 0
    tests = len(parts) == 3
    numbers = {name: [Path(path).stem for path in listed(source, name)] for name in ("train", "val", "unlabeled")}
    assert numbers == {"train": list("0123"), "val": list("45" if tests else "4567"), "unlabeled": ["alone"]}
    said = capfd.readouterr().err
    assert f"{2 if tests else 4} images in {parts[1]} validate, 4 with masks train" in said
    assert (f"2 images in {parts[-1]} are left out" in said) == tests and "drawn" not in said


def test_names_of_parts_need_not_agree(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(4):
        parts = ("train", "train") if number < 2 else ("valid", "val")
        add(source, f"images/{parts[0]}/{number}.jpg", f"masks/{parts[1]}/{number}.png", number)
    assert take(source) == 0
    assert listed(source, "val") == ["val/2.jpg", "val/3.jpg"]


def test_nothing_is_drawn_where_a_folder_tests_and_none_validates(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(6):
        part = "train" if number < 4 else "test"
        add(source, f"images/{part}/{number}.jpg", f"masks/{part}/{number}.png", number)
    assert "--val 5" in refused(capfd, source)
    assert take(source, "--val", 4) == 0
    assert len(listed(source, "train")) == 3 and len(listed(source, "val")) == 1
    assert "1 of 4 images with masks are drawn" in capfd.readouterr().err


def test_a_wish_against_the_folders_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        part = "train" if number < 2 else "val"
        add(source, f"images/{part}/{number}.jpg", f"masks/{part}/{number}.png", number)
    assert "--val: the 2 images with masks in val validate" in refused(capfd, source, "--val", 2)


def test_lists_as_of_voc_decide_too(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(5):
        add(source, f"VOC/JPEGImages/{number}.jpg", f"VOC/SegmentationClass/{number}.png", number)
    folder = source / "VOC/ImageSets/Segmentation"
    folder.mkdir(parents=True)
    for name, names in (("train", "0\r\n1\r\n"), ("val", "2\n3"), ("test", "4\n"), ("trainval", "0\n1\n2\n3\n")):
        (folder / f"{name}.txt").write_text(names)
    assert take(source) == 0
    assert (listed(source, "train"), listed(source, "val")) == (["0.jpg", "1.jpg"], ["2.jpg", "3.jpg"])
    said = capfd.readouterr().err
    assert "2 images in val.txt validate" in said and "1 images in test.txt are left out" in said


@pytest.mark.parametrize("line", ["{}", "images/a/{}.jpg", "/data/images/a/{}.jpg masks/a/{}.png", "a/{}"])
def test_lists_of_any_place_decide(tmp_path: Path, capfd: pytest.CaptureFixture, line: str) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/a/{number}.jpg", f"masks/a/{number}.png", number)
    (source / "splits").mkdir()
    (source / "splits/train.txt").write_text("\n".join(line.format(number, number) for number in (0, 1, 3)))
    (source / "splits/Val.txt").write_text(line.format(2, 2))
    assert take(source) == 0
    assert listed(source, "val") == ["a/2.jpg"] and "left out" not in capfd.readouterr().err


def test_an_image_in_two_lists(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    (source / "train.txt").write_text("0\n1\n2\n")
    (source / "val.txt").write_text("2\n3\n")
    assert "2.jpg is in train.txt and in val.txt" in refused(capfd, source)


def test_lists_of_other_images_say_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/b/{number}.jpg", f"masks/b/{number}.png", number)
    (source / "val.txt").write_text("other/0.jpg\nother/1.jpg\n10\n")
    assert take(source) == 0
    assert len(listed(source, "val")) == 1 and len(listed(source, "train")) == 3


def test_masks_of_the_same_name_in_the_same_folder(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"{number}.jpg", f"{number}.png", number)
    assert "two files of one name" in (message := refused(capfd, source)) and "a_mask.png" in message


@pytest.mark.parametrize("text", ["no, such.csv", "a,b/classes.txt", "classes"])
def test_a_classes_file_with_a_comma_is_no_list_of_names(
    tmp_path: Path, capfd: pytest.CaptureFixture, text: str
) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    message = error_of(capfd, "folder", source, tmp_path / "out", "--classes", text, *ONE)
    assert f"classes file not readable: {text}" in message


def test_images_in_archives_of_parts(tmp_path: Path) -> None:
    """As ISIC is downloaded: a zip file for the images and one for the masks of each part."""
    for part, numbers in (("Training", range(3)), ("Validation", range(3, 5))):
        for number in numbers:
            add(tmp_path, f"{part}_Input/{number}.jpg", f"{part}_GroundTruth/{number}_Segmentation.png", number)
        for kind in ("Input", "GroundTruth"):
            name = f"ISIC_{part}_{kind}"
            pack(tmp_path / f"{part}_{kind}", tmp_path / f"source/{name}.zip", f"{name}/")
    assert take(tmp_path / "source") == 0
    assert listed(tmp_path / "source", "val") == ["val/3.jpg", "val/4.jpg"]


@pytest.mark.parametrize("ending", ["_mask", "_L", "-mask", "_Segmentation", ".jpg", "_LABEL"])
@pytest.mark.parametrize("folder", ["masks/", "SegmentationClassPNG/"])
def test_endings_of_masks_are_found(tmp_path: Path, capfd: pytest.CaptureFixture, ending: str, folder: str) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(
            source,
            f"{'images' if folder == 'masks/' else 'JPEGImages'}/{number}.jpg",
            f"{folder}{number}{ending}.png",
            number,
        )
    assert take(source) == 0
    assert "masks named *" in capfd.readouterr().err and len(listed(source, "train")) == 2


def test_an_ending_of_images(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"a/{number}_rgb.jpg", f"b/{number}_truth.png", number)
    add(source, "a/4_depth.jpg", None, 4)
    asked = ["--images", "a", "--masks", "b", "--image-ending", "_rgb", "--mask-ending", "_truth"]
    assert take(source, *asked) == 0
    assert len(listed(source, "train")) == 2 and not listed(source, "unlabeled")


def test_folders_named_by_half(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"photos/{number}.jpg", f"labels/{number}.png", number)
    assert take(source, "--images", "photos") == 0
    assert len(listed(source, "train")) == 2


def test_what_is_left_out_is_counted(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(6):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    for name in (
        "images/a.HEIC",
        "images/b.heic",
        "images/._0.jpg",
        "images/.DS_Store",
        "masks/Thumbs.db",
        "masks/._0.png",
    ):
        (source / name).write_bytes(b"other")
    for number in range(4):
        write_image(source / f"images/{number}_overlay.jpg", 20 + number)
    assert take(source) == 0
    said = capfd.readouterr().err
    assert "left out: 4 hidden, 2 .heic" in said and "left out: 4 pictures *_overlay.jpg" not in said
    assert "left out: 4 pictures *_overlay of images that have masks" in said
    assert not listed(source, "unlabeled")


def test_an_image_that_resembles_another_is_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(6):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    write_image(source / "images/0_1.jpg", 20)
    write_image(source / "images/1_late.jpg", 21)
    assert take(source) == 0
    assert listed(source, "unlabeled") == ["0_1.jpg", "1_late.jpg"]


def test_a_copy_of_everything_deeper_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(6):
        place = "old/" if number > 3 else ""
        add(source, f"{place}images/{number}.jpg", f"{place}masks/{number}.png", number)
    assert take(source) == 0
    assert len(listed(source, "train")) == 3 and "left out: 2 .jpg, 2 .png" in capfd.readouterr().err


def test_images_that_all_test_do_not_train(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"export/test/images/{number}.jpg", f"export/test/masks/{number}.png", number)
    assert "there is test" in refused(capfd, source)


NEARLY = {
    "set --images": "{}_truth.png",
    "put masks into folders": "other/folder/x{}.png",
    "capital letters": "X{}.PNG",
}


@pytest.mark.parametrize("remedy", NEARLY)
def test_names_that_nearly_agree(tmp_path: Path, capfd: pytest.CaptureFixture, remedy: str) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/x{number}.jpg", f"masks/{NEARLY[remedy].format(number)}", number)
    message = refused(capfd, source)
    assert remedy in message and "images/x0.jpg" in message and f"masks/{NEARLY[remedy].format(0)}" in message


@pytest.mark.parametrize("masked", ["masks/1.png", "images/1_mask.png"])
def test_one_mask_alone_is_said(tmp_path: Path, capfd: pytest.CaptureFixture, masked: str) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", masked if number == 1 else None, number)
    assert f"found 1 in {source}: images/1.jpg with {masked}; draw the mask of another" in refused(capfd, source)


@pytest.mark.parametrize("what", ["image", "mask"])
def test_an_ending_that_no_name_has_is_said(tmp_path: Path, capfd: pytest.CaptureFixture, what: str) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    message = refused(capfd, source, f"--{what}-ending", "_x")
    assert f"--{what}-ending _x: expected names that end so, as a_x.png, found none" in message


def touch(*names: str) -> Callable[[Path], None]:
    def make(source: Path) -> None:
        for name in names:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text("{}")

    return make


NO_MASKS = {
    "images/0.json": "labelme",
    "annotations/instances_train2017.json": "COCO",
    "images/_annotations.coco.json": "COCO",
    "ds/ann/0.jpg.json": "Supervisely",
    "labels/0.txt": "YOLO",
    "annotations/0.xml": "boxes",
    "masks/0.npy": "arrays",
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_drawings_that_are_no_masks(tmp_path: Path, capfd: pytest.CaptureFixture, name: str) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", None, number)
    touch(name)(source)
    message = refused(capfd, source)
    assert NO_MASKS[name] in message and name in message and ";" in message


def test_masks_of_label_studio(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", f"masks/task-{number}-annotation-1-by-1-tag-road-0.png", number)
    assert "Label Studio" in refused(capfd, source)


def test_masks_of_cvat_without_images(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    write_mask(source / "SegmentationClass/0.png", mask(0, 2))
    assert "`Save images`" in refused(capfd, source)


def test_images_and_masks_that_are_swapped(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.png", f"masks/{number}.png", number)
    assert "swapped" in refused(capfd, source, "--images", "masks", "--masks", "images")


def test_masks_of_another_size_are_all_counted(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(5):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    whole = (source / "masks/1.png").read_bytes()
    for number in (1, 3):
        write_mask(source / f"masks/{number}.png", np.ones((5, 7), dtype=np.uint8))
    message = refused(capfd, source)
    assert "masks do not fit their images: 2, the first: " in message and "12 x 16" in message and "5 x 7" in message
    for number in (1, 3):  # the same command goes on with the mended masks
        (source / f"masks/{number}.png").write_bytes(whole)
    assert take(source) == 0
    assert (read_label(tmp_path / "out/labels/3.png", 2) == mask(1, 2, None)).all()


def test_a_mended_image_is_copied_anew(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/{number}.png", f"masks/{number}.png", number)
    cv2.imwrite(str(source / "images/2.png"), picture(2)[:5])
    assert "5 x 16" in refused(capfd, source, "--files", "copy")
    write_image(source / "images/2.png", 2)
    assert take(source, "--files", "copy") == 0
    assert (read_image(tmp_path / "out/images/2.png")[..., ::-1] == picture(2)).all()


@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_as_stored_of_turned_photographs(tmp_path: Path, capfd: pytest.CaptureFixture, orientation: int) -> None:
    """A quarter turn shows in the sizes and is refused; half a turn does not, and is said."""
    source = tmp_path / "source"
    exif = Image.Exif()
    exif[274] = orientation
    for number in range(4):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
        Image.fromarray(picture(number)).save(source / f"images/{number}.jpg", exif=exif)
    if orientation == 6:
        message = refused(capfd, source)
        assert "EXIF orientation 6" in message and "16 x 12" in message and message.count("error:") == 1
    else:
        assert take(source) == 0
        assert "4 photographs with masks carry an EXIF orientation" in capfd.readouterr().err


def test_masks_saved_as_jpeg(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", None, number)
        (source / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(source / f"masks/{number}.jpg"), 255 * mask(number, 2, None), [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert "JPEG" in refused(capfd, source)


def test_a_mask_in_its_transparency(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
        drawn = np.dstack([np.zeros((*SIZE, 3), dtype=np.uint8), 255 * mask(number, 2, None)])
        write_mask(source / f"masks/{number}.png", drawn)
    assert "alpha" in refused(capfd, source)


def test_masks_of_0_and_255(tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two names, 255 is the second; a later mask that holds 1 is refused, because one of both would be wrong."""
    monkeypatch.setattr(own, "LOOKED_AT", 2)
    source = tmp_path / "source"
    for number in range(6):
        add(source, f"images/{number}.jpg", None, number)
        write_mask(source / f"masks/{number}.png", 255 * mask(number, 2, None))
    assert take(source) == 0
    assert "255 is 'plant'" in capfd.readouterr().err
    assert (read_label(tmp_path / "out/labels/3.png", 2) == mask(3, 2, None)).all()
    (tmp_path / "out").rename(tmp_path / "old")
    for path in lines(tmp_path / "old/train.txt")[1:3]:
        write_mask(source / f"masks/{Path(path).stem}.png", np.ones(SIZE, dtype=np.uint8))
    assert "has the value 1" in refused(capfd, source)


def test_255_is_ignored_where_the_classes_have_values(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/{number}.jpg", None, number)
        write_mask(source / f"masks/{number}.png", 255 * mask(number, 2, None))
    (source / "classes.csv").write_text("name,value\nground,0\nplant,1\n")
    assert take(source, "--classes", source / "classes.csv") == 0
    assert "no mask shows plant" in (said := capfd.readouterr().err) and "255 is" not in said


def test_two_previews_of_a_mask_are_not_chosen_from(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"img/{number}.jpg", f"gt/{number}.png", number)
        write_mask(source / f"labels/{number}.png", mask(number, 2))
    assert "two files of one name" in refused(capfd, source)
    assert take(source, "--masks", "gt") == 0


def test_all_masks_are_labelled_where_images_lack_some(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(8):
        add(source, f"images/{number}.jpg", f"masks/{number}.png" if number < 3 else None, number)
    assert take(source) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*labeled_1-*")) == [
        *("labeled_1-1.txt", "labeled_1-2.txt", "unlabeled_1-1.txt", "unlabeled_1-2.txt")
    ]
    assert "labeled_ratio=1" in capfd.readouterr().out
    assert lines(tmp_path / "out/labeled_1-1.txt") == lines(tmp_path / "out/train.txt")


def test_a_ratio_that_leaves_none_labelled_is_said(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(5):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    assert take(source, "--ratios", "2,16") == 0
    assert "warning: not drawn: 1/16 of 4 training images" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("classes", "said"), [("ground,stone,plant,tree", "plant, tree; the last"), ("a,b,c", "c; the last")]
)
def test_classes_that_no_mask_shows(tmp_path: Path, capfd: pytest.CaptureFixture, classes: str, said: str) -> None:
    source = tmp_path / "source"
    for number in range(5):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    assert take(source, "--classes", classes) == 0
    assert f"warning: no mask shows {said}" in capfd.readouterr().err
    assert "no mask shows" in (tmp_path / "out/prepared.json").read_text()


def test_values_to_ignore_of_colour_masks(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    colours = np.array([(0, 0, 0), (10, 160, 0)], dtype=np.uint8)
    for number in range(3):
        add(source, f"images/{number}.jpg", None, number)
        write_mask(source / f"masks/{number}.png", colours[mask(number, 2, None)][..., ::-1])
    (source / "classes.csv").write_text("name,r,g,b\nground,0,0,0\nplant,10,160,0\n")
    assert "found colours in" in refused(capfd, source, "--classes", source / "classes.csv", "--ignore", 7)


def test_without_classes(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(3):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    assert "classes not named: expected one of" in error_of(capfd, "folder", source, tmp_path / "out", *ONE)
    (source / "labels.txt").write_text("__ignore__\n_background_\nplant\n")
    assert prepare("folder", source, tmp_path / "out", *ONE) == 0
    assert "labels.txt (labelme's" in capfd.readouterr().err
    (source / "labels.txt").write_text("a\nb\n")  # masks would mean something else now
    assert "there already" in error_of(capfd, "folder", source, tmp_path / "out", *ONE)


@pytest.mark.parametrize(
    "folders",
    [
        ("train ", "valid ", "test "),
        ("01_train", "02_val", "03_test"),
        ("roads_train", "roads_evaluation", "roadsHoldout"),
        ("train", "val", "test-dev"),
    ],
)
def test_folders_that_nearly_name_parts_decide(
    tmp_path: Path, capfd: pytest.CaptureFixture, folders: tuple[str, ...]
) -> None:
    source = tmp_path / "a test of train"
    for number in range(9):
        name = f"{folders[number % 3]}/{number}"
        add(source, f"images/{name}.jpg", f"masks/{name}.png", number)
    assert take(source) == 0
    assert len(listed(source, "train")) == len(listed(source, "val")) == 3
    assert all(folders[1] in image for image in listed(source, "val"))
    assert f"3 images in {folders[2]} are left out" in capfd.readouterr().err


def test_one_folder_that_nearly_names_a_part_is_none(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(8):
        name = f"{('crash test', 'road')[number % 2]}/{number}"
        add(source, f"images/{name}.jpg", f"masks/{name}.png", number)
    assert take(source) == 0
    assert len(listed(source, "train")) + len(listed(source, "val")) == 8


def test_names_that_begin_with_parts_are_said(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(6):
        name = f"{('train', 'val')[number % 2]}_{number}"
        add(source, f"images/{name}.jpg", f"masks/{name}.png", number)
    assert take(source) == 0
    assert "names begin with train, val: this decides nothing" in capfd.readouterr().err


def test_lists_with_further_columns(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(6):
        add(source, f"images/cat {number}.jpg", f"masks/cat {number}.png", number)
        add(source, f"images/dog{number}.jpg", f"masks/dog{number}.png", number)
    (source / "val.txt").write_text("cat 1\ndog2 1 1\ndog3,x\n")
    assert take(source) == 0
    assert listed(source, "val") == ["cat 1.jpg", "dog2.jpg", "dog3.jpg"]


def test_what_is_no_picture_is_counted_and_named(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "inner.7z").touch()
    assert "are 1 .7z, such as inner.7z" in refused(capfd, source)
    (source / "a_gtFine_polygons.json").touch()
    assert "found files of Cityscapes" in refused(capfd, source)
    (source / "scan.nii.gz").touch()
    (source / "a_gtFine_polygons.json").unlink()
    assert "found medical volumes (scan.nii.gz)" in refused(capfd, source)


def test_an_image_that_cannot_be_read_is_said(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = tmp_path / "source"
    for number in range(4):
        add(source, f"images/{number}.jpg", f"masks/{number}.png", number)
    (source / "images/2.jpg").write_bytes(b"")
    assert take(source) == 0
    said = capfd.readouterr()
    assert f"1 images with masks cannot be read, such as {source}/images/2.jpg: lists name them" in said.err
    assert said.out.endswith(
        f"open every file, to see that all is well: python -m furnace prepare check {tmp_path}/out\n"
    )
