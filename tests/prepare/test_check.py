"""`prepare check` finds every defect, names its file, counts classes, and says by its status whether all is well."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import SIZE, mask, picture, write_mask
from PIL import Image

from furnace.__main__ import main
from furnace.prepare import duplicates
from furnace.prepare.duplicates import fingerprint, same_pictures

TRAIN, VAL = range(8), range(8, 11)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A declared data set of two classes: 0 to 7 train, 0 and 1 of them labelled, 8 to 10 validate."""
    root = tmp_path / "field"
    (root / "images").mkdir(parents=True)
    for number in (*TRAIN, *VAL):
        cv2.imwrite(str(root / f"images/{number}.png"), picture(number))
        write_mask(root / f"labels/{number}.png", mask(number, 2))
    (root / "dataset.json").write_text('{"classes": ["ground", "plant"]}')
    for name, numbers in (("train", TRAIN), ("val", VAL), ("labeled_1-4", range(2)), ("unlabeled_1-4", range(2, 8))):
        write_list(root / f"{name}.txt", *(f"images/{number}.png\tlabels/{number}.png" for number in numbers))
    return root


def write_list(path: Path, *entries: str) -> None:
    path.write_text("".join(f"{entry}\n" for entry in entries))


def report_of(folder: Path, capsys: pytest.CaptureFixture, workers: int = 1) -> tuple[int, dict]:
    status = main(["prepare", "check", str(folder), "--json", "-", "--workers", str(workers)])
    return status, json.loads(capsys.readouterr().out)


def problems_of(folder: Path, capsys: pytest.CaptureFixture) -> list[tuple[str, str, str]]:
    """Kind, file without the folder, and message; the status tells whether there are any."""
    status, report = report_of(folder, capsys)
    found = [tuple(problem.values()) for problem in report["problems"]]
    assert status == (1 if found else 0)
    return [(kind, file.removeprefix(f"{folder}/"), message) for kind, file, message in found]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_data_set(folder: Path, capsys: pytest.CaptureFixture, workers: int) -> None:
    status, report = report_of(folder, capsys, workers)
    assert status == 0 and report["problems"] == []
    assert (report["images"], report["masks"]) == (11, 11)
    assert {name: entry["entries"] for name, entry in report["lists"].items()} == {
        "train": 8, "labeled 1/4": 2, "unlabeled 1/4": 6, "val": 3
    }  # fmt: skip
    for name, numbers in (("train", TRAIN), ("labeled 1/4", range(2)), ("val", VAL)):
        masks = np.stack([mask(number, 2) for number in numbers])
        counts = {"ground": (masks == 0).sum(), "plant": (masks == 1).sum(), "(ignored)": (masks == 255).sum()}
        assert report["lists"][name]["pixels"] == counts
    assert report["lists"]["unlabeled 1/4"]["pixels"] is None


def test_the_table_and_the_record(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "images/3.png").write_bytes(b"")
    arguments = ["prepare", "check", str(folder), "--workers", "1"]
    assert main([*arguments, "--json", str(tmp_path / "report.json")]) == 1
    table = capsys.readouterr().out
    assert "ground" in table and f"image: {folder}/images/3.png" in table and "1 problems found" in table
    assert len(json.loads((tmp_path / "report.json").read_text())["problems"]) == 1
    (tmp_path / "file").write_text("")
    assert main([*arguments, "--json", str(tmp_path / "file/report.json")]) == 2
    assert "error: cannot write" in capsys.readouterr().err


def spoil(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "broken off": path.read_bytes()[:100], "no image": b"hello"}[how])


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize("how", ["empty", "broken off", "no image", "missing"])
def test_a_file_that_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture, part: str, how: str) -> None:
    name = f"{part}s/4.png"
    spoil(folder / name, how)
    ((kind, file, message),) = problems_of(folder, capsys)
    assert (kind, file) == ("mask" if part == "label" else "image", name) and f"{part} not readable" in message


def test_values_and_sizes(folder: Path, capsys: pytest.CaptureFixture) -> None:
    write_mask(folder / "labels/1.png", np.full(SIZE, 2, dtype=np.uint8))
    write_mask(folder / "labels/2.png", np.zeros((5, 7), dtype=np.uint8))
    (kind, file, message), (size_kind, size_file, size_message) = problems_of(folder, capsys)
    assert (kind, file) == ("mask", "labels/1.png") and "holds 2; expected 0 to 1 or 255" in message
    assert (size_kind, size_file) == ("size", "images/2.png")
    assert "image is 12 x 16" in size_message and "5 x 7 (height x width)" in size_message


def test_lists_that_overlap_or_repeat(folder: Path, capsys: pytest.CaptureFixture) -> None:
    write_list(folder / "unlabeled_1-4.txt", *(f"images/{number}.png" for number in (1, 2, 3, 3, 9)))
    found = problems_of(folder, capsys)
    assert [kind for kind, _, _ in found] == ["list"] * 3
    assert found[0][1] == "unlabeled_1-4.txt" and "1 images stand in it twice or more" in found[0][2]
    assert {(file, message.split(", ")[0]) for _, file, message in found[1:]} == {
        ("images/9.png", "1 images are in val and in unlabeled 1/4"),
        ("images/1.png", "1 images are in labeled 1/4 and in unlabeled 1/4"),
    }


@pytest.mark.parametrize("entry", ["images/\0.png\tlabels/new.png", f"images/{'x' * 300}.png\tlabels/new.png"])
def test_a_path_that_no_file_can_have(folder: Path, capsys: pytest.CaptureFixture, entry: str) -> None:
    write_mask(folder / "labels/new.png", mask(0, 2))
    with open(folder / "train.txt", "a") as file:
        file.write(entry)
    ((kind, _, message),) = problems_of(folder, capsys)
    assert kind == "image" and "image not readable" in message


def test_the_same_picture_trains_and_validates(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """By its pixels: packed otherwise, under another name."""
    content = cv2.imencode(".png", picture(9), [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    assert content != (folder / "images/9.png").read_bytes()
    (folder / "images/5.png").write_bytes(content)
    assert problems_of(folder, capsys) == [
        ("duplicate", "images/5.png", f"trains, and is the same picture as {folder}/images/9.png, which validates")
    ]


@pytest.mark.parametrize("compared", ["few pixels", "none"])
def test_a_picture_that_differs_in_one_pixel_is_another(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, compared: str
) -> None:
    """Also where the few pixels that are compared first are equal."""
    changed = picture(9)
    changed[0, 0] ^= 1
    assert fingerprint(changed) == fingerprint(picture(9)) != fingerprint(picture(8))
    assert fingerprint(picture(9)) != fingerprint(picture(9).reshape(16, 12, 3))
    if compared == "none":
        monkeypatch.setattr("furnace.prepare.check.fingerprint", lambda _: b"all alike")
    cv2.imwrite(str(folder / "images/5.png"), changed)
    assert problems_of(folder, capsys) == []


def test_only_suspects_are_opened_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(duplicates, "read_image", lambda path, _: opened.append(path.name) or picture(0))
    images = [str(folder / f"images/{number}.png") for number in range(6)]
    found = list(same_pictures(images, [b"a", b"b", b"a", b"c", None, b"c"], {0, 1, 4}, processes=1))
    assert found == [(images[2], images[0])] and opened == ["0.png", "2.png"]


def fill_masks(folder: Path, numbers: range, *values: int) -> None:
    for number in numbers:
        write_mask(folder / f"labels/{number}.png", np.resize(np.array(values, dtype=np.uint8), SIZE))


def test_a_damaged_jpeg_is_named_in_both_tables_and_nowhere_else(folder: Path, capfd: pytest.CaptureFixture) -> None:
    """Its end marker is there, and the decoder makes something of it."""
    content = bytearray(cv2.imencode(".jpg", cv2.resize(picture(3), None, fx=8, fy=8))[1].tobytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(byte ^ 0x55 for byte in content[middle : middle + 40])
    (folder / "images/3.png").write_bytes(content)
    fill_masks(folder, range(3, 4), 0)
    cv2.imwrite(str(folder / "labels/3.png"), np.resize(np.array([0, 1], np.uint8), (8 * SIZE[0], 8 * SIZE[1])))
    ((kind, file, message),) = problems_of(folder, capfd)
    assert (kind, file) == ("image", "images/3.png") and message.startswith("damaged (Corrupt JPEG data")
    assert main(["prepare", "check", str(folder), "--workers", "1"]) == 1
    shown = capfd.readouterr()
    assert f"image: {folder}/images/3.png: damaged (Corrupt" in shown.out and "Corrupt" not in shown.err


def test_masks_that_teach_nothing(folder: Path, capsys: pytest.CaptureFixture) -> None:
    fill_masks(folder, range(2), 255)  # those that are labelled
    fill_masks(folder, VAL, 1, 255)
    assert [(file, re.split("[:;]", message)[0]) for _, file, message in problems_of(folder, capsys)] == [
        ("labeled_1-4.txt", "no pixel of its masks has a class"),
        ("val.txt", "every pixel of its masks is 'plant' or ignored, so that any network looks perfect"),
    ]


@pytest.mark.parametrize("unread", [range(2), range(1)])
def test_nothing_is_said_of_the_classes_of_masks_that_are_not_there(folder: Path, capsys, unread: range) -> None:
    fill_masks(folder, range(2), 0, 255)  # so that those of the labelled list show no plant
    for number in unread:
        (folder / f"labels/{number}.png").unlink()
    assert {kind for kind, _, _ in problems_of(folder, capsys)} == {"mask"}
    main(["prepare", "check", str(folder), "--workers", "1"])
    assert "labeled 1/4 shows no" not in capsys.readouterr().out


def test_a_class_that_no_training_mask_shows(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "dataset.json").write_text('{"classes": ["ground", "plant", "stone", "wood"]}')
    fill_masks(folder, VAL, 0, 1, 2)
    assert problems_of(folder, capsys) == [
        ("list", "train.txt", "no mask of it shows stone, which val shows: that cannot be learned"),
        ("classes", str(folder), "no mask shows wood: are the values of the masks those of the classes?"),
    ]


def test_a_mask_of_two_images_and_an_image_as_its_own_mask(folder: Path, capsys: pytest.CaptureFixture) -> None:
    cv2.imwrite(str(folder / "images/10.png"), mask(10, 2))
    write_list(
        folder / "val.txt", "images/8.png\tlabels/8.png", "images/9.png\tlabels/8.png", "images/10.png\timages/10.png"
    )
    assert problems_of(folder, capsys) == [
        ("list", "images/10.png", f"is named as its own mask by {folder}/val.txt"),
        ("list", "labels/8.png", "is the mask of 2 images"),
    ]


def test_where_all_are_labelled_the_unlabelled_list_may_be_empty(folder: Path, capsys: pytest.CaptureFixture) -> None:
    write_list(folder / "labeled_1-1.txt", *(folder / "train.txt").read_text().splitlines())
    write_list(folder / "unlabeled_1-1.txt")
    status, report = report_of(folder, capsys)
    assert status == 0 and report["problems"] == [] and report["lists_not_read"] == []
    found = {name: (entry["entries"], entry["pixels"]) for name, entry in report["lists"].items()}
    assert found["unlabeled 1/1"] == (0, None) and found["labeled 1/1"] == found["train"] == (8, found["train"][1])
    assert main(["prepare", "check", str(folder), "--workers", "1"]) == 0
    assert "         0  sha256 e3b0c44298fc  unlabeled 1/1" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["labeled_1-1", "unlabeled_1-4", "unlabeled_1-11", "unlabeled", "train", "val"])
def test_another_list_must_name_images(folder: Path, capfd: pytest.CaptureFixture, name: str) -> None:
    write_list(folder / f"{name}.txt")
    assert main(["prepare", "check", str(folder), "--workers", "1"]) == 2
    assert f"list is empty: {folder}/{name}.txt" in capfd.readouterr().err


def test_lists_that_are_nearly_named_as_lists_are_said(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "labelled_1-8.txt").write_text("images/0.png\tlabels/0.png\n")
    (folder / "classes.txt").write_text("ground\nplant\n")
    fill_masks(folder, range(2), 0)
    status, report = report_of(folder, capsys)
    assert status == 1 and report["lists_not_read"] == [f"{folder}/labelled_1-8.txt"]
    main(["prepare", "check", str(folder), "--workers", "1"])
    table = capsys.readouterr().out
    assert "note: 1 lists are not read, because no list is called so: labelled_1-8.txt" in table
    assert "note: labeled 1/4 shows no plant; val shows plant, which cannot be learned from it" in table


def test_a_list_of_another_form_is_named_once(folder: Path, capsys: pytest.CaptureFixture) -> None:
    write_list(folder / "unlabeled_1-4.txt", "images/2.png,labels/2.png")
    first, second = problems_of(folder, capsys)
    assert first[:2] == ("list", "unlabeled_1-4.txt") and "which has a comma or semicolon; part image" in first[2]
    assert second[:2] == ("image", "images/2.png,labels/2.png")


@pytest.mark.parametrize(("orientation", "turned"), [(1, []), (3, ["images/3.png"]), (6, [])])
def test_a_photograph_turned_by_its_tag(folder: Path, capsys, orientation: int, turned: list[str]) -> None:
    """By 180 degrees, sizes do not tell whether its mask was drawn before it was turned or after."""
    exif = Image.Exif()
    exif[274] = orientation
    stored = picture(3).swapaxes(0, 1) if orientation == 6 else picture(3)
    Image.fromarray(stored).save(folder / "images/3.png", "JPEG", exif=exif)
    status, report = report_of(folder, capsys)
    assert status == 0 and report["turned_by_exif"] == [f"{folder}/{name}" for name in turned]
    assert main(["prepare", "check", str(folder), "--workers", "1"]) == 0
    assert ("1 images are turned or mirrored by their EXIF tag" in capsys.readouterr().out) == bool(turned)


def test_what_is_no_data_set(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    for place, message in (("nowhere", "data set not found"), (".", "data set not recognised")):
        assert main(["prepare", "check", str(tmp_path / place)]) == 2
        assert f"error: {message}: {tmp_path}" in capsys.readouterr().err
    assert main(["prepare", "check", str(folder), "--lists", str(tmp_path)]) == 2
    assert f"error: no list in {tmp_path}: expected train.txt" in capsys.readouterr().err


def test_one_mask_for_all_and_an_image_of_one_colour(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for number in TRAIN:
        write_mask(folder / f"labels/{number}.png", mask(0, 2))
    cv2.imwrite(str(folder / "images/3.png"), np.zeros((*SIZE, 3), dtype=np.uint8))
    found = problems_of(folder, capsys)
    assert ("list", "train.txt", "all of its masks are copies of one") in found
    assert ("image", "images/3.png", "all of its pixels have one colour, but its mask shows classes") in found
    assert len(found) == 2
    moved = mask(0, 2)[::-1]
    assert not np.array_equal(moved, mask(0, 2))
    write_mask(folder / f"labels/{TRAIN[0]}.png", moved)  # as many pixels of each class
    assert len(problems_of(folder, capsys)) == 1


def test_a_list_that_is_not_there_is_noted(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "val.txt").unlink()
    assert main(["prepare", "check", str(folder), "--workers", "1"]) == 0
    assert "note: there is no list val, which training or evaluation asks for" in capsys.readouterr().out
