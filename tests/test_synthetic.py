"""The demo data: reproducible, in the layout of PASCAL VOC, and with classes that colour cannot tell apart."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from furnace.data.synthetic import IGNORE_LABEL, NUM_CLASSES_DRAWN, _labelling_order, draw_scene, write_voc_layout
from furnace.errors import InputError

OBJECT_CLASSES = set(range(1, NUM_CLASSES_DRAWN))
IMAGES = 60


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    write_voc_layout(folder, images=IMAGES, seed=5)
    return folder


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene(np.random.default_rng([1, index]), 96, 120) for index in range(200)]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_list(folder: Path, kind: str, ratio: int) -> list[str]:
    return (folder / "subset_train_aug" / f"train_aug_{kind}_1-{ratio}.txt").read_text().splitlines()


def read_label(folder: Path, line: str) -> np.ndarray:
    return cv2.imread(str(folder / line.split("\t")[1].lstrip("/")), cv2.IMREAD_UNCHANGED)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_voc_layout(tmp_path / name, images=12, seed=5)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_other_seed_other_scenes_and_other_labelled_images(tmp_path: Path) -> None:
    for seed in (5, 6):
        write_voc_layout(tmp_path / str(seed), images=12, seed=seed)
    first, second = digests(tmp_path / "5"), digests(tmp_path / "6")
    scene_files = [name for name in first if name.endswith((".jpg", ".png"))]
    assert len(scene_files) == 24
    assert not [name for name in scene_files if first[name] == second[name]]
    assert read_list(tmp_path / "5", "labeled", 2) != read_list(tmp_path / "6", "labeled", 2)


def test_an_image_does_not_depend_on_how_many_there_are(demo: Path, tmp_path: Path) -> None:
    write_voc_layout(tmp_path, images=10, seed=5)
    shared = [name for name in digests(tmp_path) if name.startswith("train_aug/")]
    assert len(shared) == 16
    assert {name: digests(tmp_path)[name] for name in shared} == {name: digests(demo)[name] for name in shared}


def test_scene_types_and_label_values(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, label in scenes:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == (96, 120, 3) and label.shape == (96, 120)
        assert set(np.unique(label).tolist()) <= {0, IGNORE_LABEL} | OBJECT_CLASSES
        assert set(np.unique(label).tolist()) >= {0, IGNORE_LABEL}
    images_with = {index: sum((label == index).any() for _, label in scenes) for index in OBJECT_CLASSES}
    assert min(images_with.values()) > len(scenes) / 4  # three objects of five classes: half the images, give or take


def test_a_border_lies_between_any_two_classes(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, label in scenes:
        for here, there in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching = (here != there) & (here != IGNORE_LABEL) & (there != IGNORE_LABEL)
            assert not touching.any()
        assert (label == IGNORE_LABEL).mean() < 0.2


def test_colour_tells_no_class_from_another(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    means: dict[int, list[np.ndarray]] = {index: [] for index in range(NUM_CLASSES_DRAWN)}
    for image, label in scenes:
        for index in np.unique(label[label != IGNORE_LABEL]):
            means[int(index)].append(image[label == index].mean(axis=0))
    pooled = np.array([np.mean(means[index], axis=0) for index in means])  # (6, 3)
    # A region's mean colour has a deviation of about 40, so a mean over 80 and more regions has one of about 4.
    assert np.ptp(pooled, axis=0).max() < 18
    assert np.abs(pooled - 127.5).max() < 14
    # The same within each class: were a class red here and blue there, its regions would still spread like the others'.
    spread = np.array([np.std(means[index], axis=0).mean() for index in means])
    assert spread.min() > 0.75 * spread.max() and spread.min() > 20


def test_texture_does_tell_objects_from_the_ground(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    contrast: dict[bool, list[float]] = {False: [], True: []}
    for image, label in scenes:
        gray = image.mean(axis=2)
        for index in np.unique(label[label != IGNORE_LABEL]):
            contrast[index > 0].append(gray[label == index].std())
    assert np.median(contrast[True]) > 1.5 * np.median(contrast[False])


def test_layout_and_sizes(demo: Path) -> None:
    training = sorted(path.stem for path in (demo / "train_aug/image").iterdir())
    validation = (demo / "val.txt").read_text().splitlines()
    assert (len(training), len(validation)) == (IMAGES * 4 // 5, IMAGES // 5)
    assert sorted(path.stem for path in (demo / "train_aug/label").iterdir()) == training
    sizes = set()
    for line in read_list(demo, "labeled", 2) + validation:
        image_path, label_path = line.split("\t")
        assert Path(image_path).parts[:2] == Path(label_path).parts[:2]
        assert Path(image_path).stem == Path(label_path).stem
        assert (Path(image_path).suffix, Path(label_path).suffix) == (".jpg", ".png")
        image, label = cv2.imread(str(demo / image_path.lstrip("/"))), read_label(demo, line)
        assert image.shape == (*label.shape, 3)
        sizes.add(label.shape)
    assert len(sizes) > 10  # sizes vary


def test_written_image_is_the_scene_in_rgb_order(demo: Path) -> None:
    rng = np.random.default_rng([5, 0])
    height, width = int(rng.integers(112, 145)), int(rng.integers(144, 177))
    image, label = draw_scene(rng, height, width)
    written = cv2.cvtColor(cv2.imread(str(demo / "train_aug/image/scene_00000.jpg")), cv2.COLOR_BGR2RGB)
    assert np.abs(written.astype(int) - image).mean() < 12  # what JPEG loses of the noise and of the colours
    assert np.array_equal(read_label(demo, "\t/train_aug/label/scene_00000.png"), label)


def test_lists_are_disjoint_nested_and_complete(demo: Path) -> None:
    training = {f"/train_aug/image/{path.name}" for path in (demo / "train_aug/image").iterdir()}
    smaller: set[str] = set()
    for ratio in (16, 8, 4, 2):
        labeled = [line.split("\t")[0] for line in read_list(demo, "labeled", ratio)]
        unlabeled = read_list(demo, "unlabeled", ratio)
        assert len(labeled) == len(training) // ratio
        assert len(labeled) + len(unlabeled) == len(training)
        assert set(labeled) | set(unlabeled) == training
        assert smaller < set(labeled)
        smaller = set(labeled)


def test_smallest_labelled_list_shows_every_class(demo: Path) -> None:
    lines = read_list(demo, "labeled", 16)
    assert len(lines) == 3  # so few that a random choice often misses a class
    shown = set().union(*(np.unique(read_label(demo, line)).tolist() for line in lines))
    assert shown - {0, IGNORE_LABEL} == OBJECT_CLASSES


@pytest.mark.parametrize("seed", range(5))
def test_images_with_a_rare_class_are_labelled_first(seed: int) -> None:
    classes_shown = [{1, 2}] * 90 + [{3}] * 8 + [{4, 5, 1}] + [set()]
    order = _labelling_order(classes_shown, seed)
    assert sorted(order) == list(range(100))
    assert set().union(*(classes_shown[index] for index in order[:3])) == OBJECT_CLASSES
    assert order[3:] != sorted(order[3:])  # the rest stays random
    assert order[3:] != _labelling_order(classes_shown, seed + 1)[3:]


def test_progress_sees_every_image(tmp_path: Path) -> None:
    seen = []

    def progress(indices):
        for index in indices:
            seen.append(index)
            yield index

    write_voc_layout(tmp_path, images=10, progress=progress)
    assert seen == list(range(10))


def test_earlier_demo_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    write_voc_layout(tmp_path, images=12, seed=1)
    (tmp_path / "notes.txt").write_text("mine")
    write_voc_layout(tmp_path, images=10, seed=2)
    assert len(list((tmp_path / "train_aug/image").iterdir())) == 8
    assert len((tmp_path / "val.txt").read_text().splitlines()) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_demo_has_no_lists_and_can_be_made_again(tmp_path: Path) -> None:
    write_voc_layout(tmp_path, images=10)

    def interrupted(indices):
        yield next(iter(indices))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_voc_layout(tmp_path, images=10, progress=interrupted)
    assert not list(tmp_path.rglob("*1-*.txt")) and not (tmp_path / "val.txt").exists()
    write_voc_layout(tmp_path, images=10)
    assert (tmp_path / "val.txt").exists()


@pytest.mark.parametrize("existing", ["photos/holiday.jpg", "subset_train_aug/train_aug_labeled_1-8.txt", "val.txt"])
def test_folders_of_others_are_refused_untouched(existing: str, tmp_path: Path) -> None:
    """The second is the real PASCAL VOC, whose folders have the same names."""
    (tmp_path / existing).parent.mkdir(exist_ok=True)
    (tmp_path / existing).write_text("precious")
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"expected .* found .*; name another folder"):
        write_voc_layout(tmp_path, images=10)
    assert digests(tmp_path) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match="found"):
        write_voc_layout(tmp_path / "file", images=10)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(("images", "seed"), [(9, 0), (10, -1)])
def test_too_few_images_or_a_negative_seed_are_refused(images: int, seed: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected .* found .*; "):
        write_voc_layout(tmp_path / "demo", images=images, seed=seed)
    assert not (tmp_path / "demo").exists()
