"""Small exports of labelling programs and public data sets: their folders, names, formats, and what else lies there."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from layouts import SIZE, mask, pack, write_image, write_mask, write_palette_mask

VALUES = 3  # different values in most of these masks


def values_of(number: int, count: int = VALUES) -> np.ndarray:
    """The values of mask `number`, (H, W) uint8, none of them ignored."""
    return mask(50 + number, count, None)


def write_colours(path: Path, values: np.ndarray, colours: list[tuple[int, int, int]]) -> None:
    write_mask(path, np.array(colours, dtype=np.uint8)[values][..., ::-1])


def labelme(root: Path) -> Path:
    """`labelme2voc.py images data_dataset_voc --labels labels.txt`, with a pixel of `__ignore__` in each mask."""
    for number in range(6):
        write_image(root / f"JPEGImages/{number}.jpg", number)
        values = values_of(number)
        values[0, 0] = 255
        write_palette_mask(root / f"SegmentationClass/{number}.png", values)
        write_image(root / f"SegmentationClassVisualization/{number}.jpg", number)
        (root / "SegmentationClassNpy").mkdir(exist_ok=True)
        np.save(root / f"SegmentationClassNpy/{number}.npy", values)
    (root / "class_names.txt").write_text("_background_\nroad\ncar")
    return root


CVAT_COLOURS = [(0, 0, 0), (250, 50, 83), (36, 179, 83)]


def cvat(root: Path) -> Path:
    """`Segmentation mask 1.1` with `Save images`, as the zip file that it is."""
    folder = root.with_suffix("")
    for number in range(6):
        write_image(folder / f"JPEGImages/frames/{number}.jpg", number)
        write_colours(folder / f"SegmentationClass/frames/{number}.png", values_of(number), CVAT_COLOURS)
        write_colours(folder / f"SegmentationObject/frames/{number}.png", values_of(number), CVAT_COLOURS[::-1])
    names = ["background", "road", "car"]
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\n"
        + "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in zip(names, CVAT_COLOURS, strict=True))
    )
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/default.txt").write_text("".join(f"frames/{number}\n" for number in range(6)))
    return pack(folder, root)


def roboflow(root: Path) -> Path:
    """`Semantic Segmentation Masks`: masks beside images in train, valid and test."""
    for number, part in enumerate(["train"] * 4 + ["valid"] * 2 + ["test"]):
        write_image(root / f"{part}/{number}_jpg.rf.0a1b{number}.jpg", number)
        write_mask(root / f"{part}/{number}_jpg.rf.0a1b{number}_mask.png", values_of(number))
        (root / part / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, road\n2, car\n")
    (root / "README.roboflow.txt").write_text("exported")
    (root / "README.dataset.txt").write_text("exported")
    return root


def supervisely(root: Path) -> Path:
    """The app `Export as masks`: a tar file with two data sets of a project."""
    project = root.with_suffix("") / "1234_streets"
    for number in range(6):
        folder = project / ("monday" if number < 3 else "tuesday")
        write_image(folder / f"img/{number}.jpg", number)
        write_mask(folder / f"masks_machine/{number}.png", np.dstack([values_of(number)] * 3))
        write_image(folder / f"masks_human/{number}.png", number)
        (folder / "ann").mkdir(exist_ok=True)
        (folder / f"ann/{number}.jpg.json").write_text("{}")
    (project / "obj_class_to_machine_color.json").write_text('{"road": [1, 1, 1], "car": [2, 2, 2]}')
    classes = [{"title": "road", "shape": "bitmap", "color": "#FF0000", "id": 1}]
    (project / "meta.json").write_text(json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    return pack(root.with_suffix(""), root)


KAGGLE_COLOURS = [(64, 128, 64), (192, 0, 128), (0, 128, 192)]


def kaggle(root: Path) -> Path:
    """CamVid as on Kaggle: `train`, `train_labels`, ..., and class_dict.csv."""
    for number, part in enumerate(["train"] * 4 + ["val"] * 2 + ["test"]):
        write_image(root / f"{part}/0001TP_00{number}.png", number)
        write_colours(root / f"{part}_labels/0001TP_00{number}_L.png", values_of(number), KAGGLE_COLOURS)
    names = ["background", "road", "car"]
    table = [",".join(map(str, (name, *colour))) for name, colour in zip(names, KAGGLE_COLOURS, strict=True)]
    (root / "class_dict.csv").write_text("\n".join(["name,r,g,b", *table]))
    return root


LAND_COLOURS = [(0, 255, 255), (255, 255, 0), (255, 0, 255)]


def deepglobe(root: Path) -> Path:
    """DeepGlobe's land cover: masks beside the training images alone."""
    for number, part in enumerate(["train"] * 6 + ["valid", "test"]):
        write_image(root / f"{part}/{100 + number}_sat.jpg", number)
        if part == "train":
            write_colours(root / f"{part}/{100 + number}_mask.png", values_of(number), LAND_COLOURS)
    (root / "class_dict.csv").write_text("name,r,g,b\nbackground,0,255,255\nroad,255,255,0\ncar,255,0,255\n")
    (root / "metadata.csv").write_text("image_id,split,sat_image_path,mask_path\n")
    return root


def roads(root: Path) -> Path:
    """DeepGlobe's roads: masks of 0 and 255 in three channels."""
    for number in range(6):
        write_image(root / f"train/{number}_sat.jpg", number)
        write_mask(root / f"train/{number}_mask.png", np.dstack([255 * values_of(number, 2)] * 3))
    return root


def isic(root: Path) -> Path:
    """ISIC 2018, with superpixels beside the images as in 2017."""
    for number, part in enumerate(["Training"] * 4 + ["Validation"] * 2 + ["Test"]):
        name = f"ISIC_{number:07d}"
        write_image(root / f"ISIC2018_Task1-2_{part}_Input/{name}.jpg", number)
        write_image(root / f"ISIC2018_Task1-2_{part}_Input/{name}_superpixels.png", number)
        truth = root / f"ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png"
        write_mask(truth, 255 * values_of(number, 2))
        (truth.parent / "ATTRIBUTION.txt").write_text("cite")
    return root


# By the source that the page's command names: how it is made, and how many images train, validate, have no mask.
EXPORTS: dict[str, tuple[Callable[[Path], Path], tuple[int, int, int]]] = {
    "data_dataset_voc": (labelme, (5, 1, 0)),
    "task.zip": (cvat, (5, 1, 0)),
    "roboflow": (roboflow, (4, 2, 0)),
    "project.tar": (supervisely, (5, 1, 0)),
    "CamVid": (kaggle, (4, 2, 0)),
    "deepglobe": (deepglobe, (5, 1, 0)),
    "roads": (roads, (5, 1, 0)),
    "ISIC": (isic, (4, 2, 0)),
}
BINARY = ("roads", "ISIC")
assert SIZE == (12, 16)  # of every image here, by layouts.py
