"""`prepare split` writes both lists of a ratio, or none."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from furnace.__main__ import main
from furnace.data.splits import draw_labeled


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def voc_folder(root: Path, count: int = 20, classes: Sequence[int] = (0, 1, 2)) -> Path:
    """A VOC layout without images: `count` masks, of which the last few alone show the classes beyond the first."""
    (root / "train_aug/label").mkdir(parents=True)
    for number in range(count):
        shown = classes[max(0, number - count + len(classes))]
        cv2.imwrite(str(root / f"train_aug/label/{number}.png"), np.full((4, 4), shown, dtype=np.uint8))
    entries = [f"/train_aug/image/{number}.jpg\t/train_aug/label/{number}.png" for number in range(count)]
    (root / "train_aug.txt").write_text("\n".join(entries) + "\n")
    return root


def split(*arguments: object) -> int:
    return main(["prepare", "split", *map(str, arguments), "--workers", "1"])


def error_of(capfd: pytest.CaptureFixture, *arguments: object) -> str:
    assert split(*arguments) == 2
    return next(line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))


def test_split_writes_both_lists(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = voc_folder(tmp_path)
    (folder / "unlabeled.txt").write_text("/more/a b.jpg\n/more/ü.jpg\n")
    assert split(folder, "--ratio", "4,5", "--seed", 3) == 0
    train = lines(folder / "train_aug.txt")
    for ratio in (4, 5):
        labeled = lines(folder / f"subset_train_aug/train_aug_labeled_1-{ratio}.txt")
        unlabeled = lines(folder / f"subset_train_aug/train_aug_unlabeled_1-{ratio}.txt")
        assert labeled == [line for line, chosen in zip(train, draw_labeled(20, ratio, 3), strict=True) if chosen]
        assert unlabeled[-2:] == ["/more/a b.jpg", "/more/ü.jpg"]
        assert sorted([line.split("\t")[0] for line in labeled] + unlabeled[:-2]) == sorted(
            line.split("\t")[0] for line in train
        )
    assert "         5  sha256 " in capsys.readouterr().out


def test_a_list_is_never_drawn_over_unasked(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = voc_folder(tmp_path)
    path = folder / "subset_train_aug/train_aug_labeled_1-4.txt"
    path.parent.mkdir()
    path.write_text("a published protocol\n")
    assert f"list exists: {path}" in error_of(capfd, folder, "--ratio", 4)
    assert path.read_text() == "a published protocol\n"
    assert split(folder, "--ratio", 4, "--replace") == 0
    assert len(lines(path)) == 5


@pytest.mark.parametrize("ratios", ["5,4", "1,4"])
def test_several_splits_are_all_written_or_none(tmp_path: Path, capfd: pytest.CaptureFixture, ratios: str) -> None:
    folder = voc_folder(tmp_path)
    assert split(folder, "--ratio", 4) == 0
    assert "list exists" in error_of(capfd, folder, "--ratio", ratios)
    assert len(list((folder / "subset_train_aug").iterdir())) == 2


def test_a_single_image_cannot_be_a_part_of_all(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = voc_folder(tmp_path, count=1, classes=(0,))
    message = error_of(capfd, folder, "--ratio", "1,2")
    assert "1/2 of 1 images are 1, which leaves none unlabelled; choose ratio 1, or get more images" in message
    assert not (folder / "subset_train_aug").exists()


def test_a_share_of_less_than_an_image_is_not_drawn(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = voc_folder(tmp_path, count=13)
    message = error_of(capfd, folder, "--ratio", "4,14")
    assert "1/14 of 13 images is less than one; choose 13 or less" in message
    assert not (folder / "subset_train_aug").exists()
    assert split(folder, "--ratio", 13) == 0


def test_a_ratio_named_twice_is_drawn_once(tmp_path: Path) -> None:
    assert split(voc_folder(tmp_path), "--ratio", "4,4") == 0


@pytest.mark.parametrize("more", [[], ["--every-class"]])
def test_all_images_are_labelled_by_ratio_1(tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str]) -> None:
    folder = voc_folder(tmp_path)
    assert split(folder, "--ratio", "1,4", "--seed", 7, *more) == 0
    subsets = folder / "subset_train_aug"
    assert (subsets / "train_aug_labeled_1-1.txt").read_bytes() == (folder / "train_aug.txt").read_bytes()
    assert (subsets / "train_aug_unlabeled_1-1.txt").read_bytes() == b""
    assert len(lines(subsets / "train_aug_unlabeled_1-4.txt")) == 15
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    empty = hashlib.sha256(b"").hexdigest()[:12]
    assert ["0", "sha256", empty, str(subsets / "train_aug_unlabeled_1-1.txt")] in said
    assert [line[0] for line in said] == ["20", "0", "5", "15"]


def test_all_images_may_be_labelled_where_others_never_were(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path)
    (folder / "unlabeled.txt").write_text("/more/a.jpg\n")
    assert split(folder, "--ratio", 1) == 0
    assert lines(folder / "subset_train_aug/train_aug_unlabeled_1-1.txt") == ["/more/a.jpg"]


def test_lists_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "data")
    assert split(folder, "--ratio", 4, "--lists", tmp_path / "lists") == 0
    assert not (folder / "subset_train_aug").exists()
    assert len(lines(tmp_path / "lists/subset_train_aug/train_aug_labeled_1-4.txt")) == 5


def test_every_class_is_labelled_on_request(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = voc_folder(tmp_path, count=40, classes=(0, 1, 2, 3))
    labeled = folder / "subset_train_aug/train_aug_labeled_1-10.txt"

    def classes_labelled() -> set[int]:
        return {int(cv2.imread(str(folder / line.split("\t")[1][1:]), -1).max()) for line in lines(labeled)}

    assert split(folder, "--ratio", 10) == 0
    assert classes_labelled() != {0, 1, 2, 3}  # with this seed chance does not do it
    assert split(folder, "--ratio", 10, "--every-class", "--replace") == 0
    assert classes_labelled() == {0, 1, 2, 3} and len(lines(labeled)) == 4
    message = error_of(capfd, folder, "--ratio", 20, "--every-class", "--replace")
    assert "1/20 of 40 images are 2, but it takes 4 to show every class" in message


def test_bad_requests(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert "data set not found" in error_of(capfd, tmp_path / "nowhere", "--ratio", 4)
    assert "data set not recognised" in error_of(capfd, tmp_path, "--ratio", 4)
    (tmp_path / "train_aug").mkdir()
    assert "training list not found" in error_of(capfd, tmp_path, "--ratio", 4)
    for bad in (["--ratio", "0"], ["--ratio", "four"], ["--ratio", "8", "--seed", "-1"], []):
        with pytest.raises(SystemExit) as exit_:
            split(tmp_path, *bad)
        assert exit_.value.code == 2
