"""The demo data: reproducible, in either layout, and with classes that colour cannot tell apart."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.synthetic.layout import (
    CITY_LAYOUT,
    VOC_LAYOUT,
    Layout,
    _labelling_order,
    write_city_layout,
    write_voc_layout,
)
from furnace.synthetic.shapes import NUM_CLASSES_DRAWN, draw_scene

OBJECT_CLASSES = set(range(1, NUM_CLASSES_DRAWN))
CLASSES = {"voc": set(range(NUM_CLASSES_DRAWN)), "city": set(range(19))}
IMAGES = 80


class Demo:
    """One layout: how it is written, and a larger demo of it to look at."""

    def __init__(self, layout: Layout, write: Callable, folder: Path) -> None:
        self.layout, self.write, self.folder = layout, write, folder
        self.classes = CLASSES[layout.dataset.name]

    def list_file(self, kind: str, ratio: int) -> str:
        return getattr(self.layout.dataset, f"{kind}_list").format(ratio=ratio)

    def read_list(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()


@pytest.fixture(scope="module", params=[(VOC_LAYOUT, write_voc_layout), (CITY_LAYOUT, write_city_layout)], ids=CLASSES)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    demo = Demo(*request.param, tmp_path_factory.mktemp("demo") / "new" / "folder")
    demo.write(demo.folder, images=IMAGES, seed=5)
    return demo


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene(np.random.default_rng([1, index]), 96, 120) for index in range(200)]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_label(folder: Path, line: str) -> np.ndarray:
    return cv2.imread(str(folder / line.split("\t")[1].lstrip("/")), cv2.IMREAD_UNCHANGED)


def test_same_seed_same_bytes(demo: Demo, tmp_path: Path) -> None:
    for name in ("one", "two"):
        demo.write(tmp_path / name, images=12, seed=5)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_other_seed_other_scenes_and_other_labelled_images(demo: Demo, tmp_path: Path) -> None:
    for seed in (5, 6):
        demo.write(tmp_path / str(seed), images=12, seed=seed)
    first, second = digests(tmp_path / "5"), digests(tmp_path / "6")
    scene_files = [name for name in first if name.endswith((".jpg", ".png"))]
    assert len(scene_files) == 24
    assert not [name for name in scene_files if first[name] == second[name]]
    labeled_list = demo.list_file("labeled", 2)
    assert first[labeled_list] != second[labeled_list]


def test_an_image_does_not_depend_on_how_many_there_are(demo: Demo, tmp_path: Path) -> None:
    demo.write(tmp_path, images=10, seed=5)
    few, many = digests(tmp_path), digests(demo.folder)
    shared = [path[1:] for number in range(8) for path in demo.layout.pair(demo.layout.dataset.train_folder, number)]
    assert len(shared) == 16
    assert {name: few[name] for name in shared} == {name: many[name] for name in shared}


def test_scene_types_and_label_values(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, label in scenes:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == (96, 120, 3) and label.shape == (96, 120)
        assert set(np.unique(label).tolist()) <= {0, IGNORE} | OBJECT_CLASSES
        assert set(np.unique(label).tolist()) >= {0, IGNORE}
    images_with = {index: sum((label == index).any() for _, label in scenes) for index in OBJECT_CLASSES}
    assert min(images_with.values()) > len(scenes) / 4  # three objects of five classes: half the images, give or take


def test_a_border_lies_between_any_two_classes(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, label in scenes:
        for here, there in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching = (here != there) & (here != IGNORE) & (there != IGNORE)
            assert not touching.any()
        assert (label == IGNORE).mean() < 0.2


def test_colour_tells_no_class_from_another(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    means: dict[int, list[np.ndarray]] = {index: [] for index in range(NUM_CLASSES_DRAWN)}
    for image, label in scenes:
        for index in np.unique(label[label != IGNORE]):
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
        for index in np.unique(label[label != IGNORE]):
            contrast[index > 0].append(gray[label == index].std())
    assert np.median(contrast[True]) > 1.5 * np.median(contrast[False])


def test_layout_and_sizes(demo: Demo) -> None:
    layout, dataset = demo.layout, demo.layout.dataset
    training, validation = demo.read_list(dataset.train_list), demo.read_list(dataset.val_list)
    assert (len(training), len(validation)) == (IMAGES * 4 // 5, IMAGES // 5)
    pairs = ["\t".join(layout.pair(layout.dataset.train_folder, number)) for number in range(IMAGES * 4 // 5)]
    assert training == pairs
    files = {path.relative_to(demo.folder).as_posix() for path in demo.folder.rglob("*.[jp][pn]g")}
    assert files == {path[1:] for line in training + validation for path in line.split("\t")}
    sizes = set()
    for line in training + validation:
        image, label = cv2.imread(str(demo.folder / line.split("\t")[0][1:])), read_label(demo.folder, line)
        assert image.shape == (*label.shape, 3)
        sizes.add(label.shape)
    assert len(sizes) > 10  # sizes vary


def test_the_published_file_names() -> None:
    assert VOC_LAYOUT.pair("val", 7) == ("/val/image/scene_00007.jpg", "/val/label/scene_00007.png")
    assert CITY_LAYOUT.pair("train", 7) == (
        "/images/train/street_00007.png",
        "/segmentation/train/street_00007_gtFine.png",
    )


def test_written_image_is_the_scene_in_rgb_order(demo: Demo) -> None:
    image, label = demo.layout.draw(np.random.default_rng([5, 0]))
    image_path, label_path = demo.layout.pair(demo.layout.dataset.train_folder, 0)
    written = cv2.cvtColor(cv2.imread(str(demo.folder / image_path[1:])), cv2.COLOR_BGR2RGB)
    lost = 12 if image_path.endswith(".jpg") else 0  # what JPEG loses of the noise and of the colours
    assert np.abs(written.astype(int) - image).mean() <= lost
    assert np.array_equal(read_label(demo.folder, f"\t{label_path}"), label)


def test_lists_are_disjoint_nested_and_complete(demo: Demo) -> None:
    training = {line.split("\t")[0] for line in demo.read_list(demo.layout.dataset.train_list)}
    smaller: set[str] = set()
    for ratio in (16, 8, 4, 2):
        labeled = [line.split("\t")[0] for line in demo.read_list(demo.list_file("labeled", ratio))]
        unlabeled = demo.read_list(demo.list_file("unlabeled", ratio))
        assert len(labeled) == len(training) // ratio
        assert len(labeled) + len(unlabeled) == len(training)
        assert set(labeled) | set(unlabeled) == training
        assert smaller < set(labeled)
        smaller = set(labeled)


def test_smallest_labelled_list_shows_every_class(demo: Demo) -> None:
    lines = demo.read_list(demo.list_file("labeled", 16))
    assert len(lines) == 4  # so few that a random choice often misses a class
    shown = set().union(*(np.unique(read_label(demo.folder, line)).tolist() for line in lines))
    assert shown == demo.classes | {IGNORE}


@pytest.mark.parametrize("seed", range(5))
def test_images_with_a_rare_class_are_labelled_first(seed: int) -> None:
    classes_shown = [{1, 2}] * 90 + [{3}] * 8 + [{4, 5, 1}] + [set()]
    order = _labelling_order(classes_shown, seed)
    assert sorted(order) == list(range(100))
    assert set().union(*(classes_shown[index] for index in order[:3])) == OBJECT_CLASSES
    assert order[3:] != sorted(order[3:])  # the rest stays random
    assert order[3:] != _labelling_order(classes_shown, seed + 1)[3:]


def test_progress_sees_every_image(demo: Demo, tmp_path: Path) -> None:
    seen = []

    def progress(indices):
        for index in indices:
            seen.append(index)
            yield index

    demo.write(tmp_path, images=10, progress=progress)
    assert seen == list(range(10))


def test_earlier_demo_is_replaced_and_other_files_stay(demo: Demo, tmp_path: Path) -> None:
    demo.write(tmp_path, images=12, seed=1)
    (tmp_path / "notes.txt").write_text("mine")
    demo.write(tmp_path, images=10, seed=2)
    (tmp_path / "notes.txt").unlink()  # mine is still there
    demo.write(tmp_path / "alone", images=10, seed=2)
    alone = digests(tmp_path / "alone")
    assert {name: digest for name, digest in digests(tmp_path).items() if not name.startswith("alone/")} == alone


def test_an_interrupted_demo_has_no_lists_and_can_be_made_again(demo: Demo, tmp_path: Path) -> None:
    demo.write(tmp_path, images=10)

    def interrupted(indices):
        yield next(iter(indices))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.write(tmp_path, images=10, progress=interrupted)
    assert [path.name for path in tmp_path.rglob("*.txt")] == [demo.layout.marker]
    demo.write(tmp_path, images=10)
    assert (tmp_path / demo.layout.dataset.val_list).exists()


@pytest.mark.parametrize("existing", ["photos/holiday.jpg", "labeled list", "val list", "other layout"])
def test_folders_of_others_are_refused_untouched(demo: Demo, existing: str, tmp_path: Path) -> None:
    """The second and third are real data sets, whose folders have the same names."""
    markers = {VOC_LAYOUT.marker, CITY_LAYOUT.marker}
    names = {
        "labeled list": demo.list_file("labeled", 8),
        "val list": demo.layout.dataset.val_list,
        "other layout": (markers - {demo.layout.marker}).pop(),
    }
    path = tmp_path / names.get(existing, existing)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"expected .* found .*; name another folder"):
        demo.write(tmp_path, images=10)
    assert digests(tmp_path) == before


def test_a_file_in_place_of_the_folder_is_refused(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match="found"):
        demo.write(tmp_path / "file", images=10)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(("images", "seed"), [(9, 0), (10, -1)])
def test_too_few_images_or_a_negative_seed_are_refused(demo: Demo, images: int, seed: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected .* found .*; "):
        demo.write(tmp_path / "demo", images=images, seed=seed)
    assert not (tmp_path / "demo").exists()
