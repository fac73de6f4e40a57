"""Plans for the official downloads: which files they have, what their masks mean, how many images there should be.

The data sets are PASCAL VOC 2012 (Everingham et al., 2010) and the Semantic Boundaries Dataset, SBD (Hariharan et al.,
2011), which adds masks to it; Cityscapes (Cordts et al., 2016); CamVid (Brostow et al., 2009), parted into training and
validation images as by SegNet (Badrinarayanan et al., 2017).
"""

from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from furnace.data.datasets import CAMVID, CITYSCAPES, VOC
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.prepare.masks import MaskCode
from furnace.prepare.plan import Pair, Plan, compare_counts, files_by_stem, is_shown, paired
from furnace.prepare.sources import File, Folder, Source, Unpack, locate, require

# fmt: off
CITYSCAPES_TRAIN_IDS = {  # by label id; every other id from 0 to 33 is ignored
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9,
    23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}
CITYSCAPES_CITIES = {  # how many images each city has
    "train": {
        "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221, "erfurt": 109,
        "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94, "strasbourg": 365,
        "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
}
# fmt: on
# How many images train and how many validate.
VOC_COUNTS = (10_582, 1_449)
CITYSCAPES_COUNTS = (2_975, 500)
CAMVID_COUNTS = (367, 101)

VOC_CODE = MaskCode({**{index: index for index in range(VOC.num_classes)}, IGNORE: IGNORE})
LABEL_IDS = MaskCode({**dict.fromkeys(range(34), IGNORE), IGNORE: IGNORE, **CITYSCAPES_TRAIN_IDS})
TRAIN_IDS = MaskCode({**{index: index for index in range(CITYSCAPES.num_classes)}, IGNORE: IGNORE})
CAMVID_CODE = MaskCode({**{index: index for index in range(CAMVID.num_classes)}, 11: IGNORE, IGNORE: IGNORE})


def plan_voc(place: Path, sbd: Path | None, unpack: Unpack) -> Plan:
    """Plans VOC 2012 with its training set augmented by the masks of SBD.

    The augmented training set is every image in VOC's train list or in SBD that is not in VOC's validation list.

    Args:
        place: VOC's folder or archive.
        sbd: SBD's folder or archive with its `.mat` files, or a folder SegmentationClassAug with masks as images; None
            if the latter may lie in VOC's own folder.
        unpack: unpacks a compressed tar file.

    Raises:
        InputError: VOC's lists or SBD's masks are not found.
    """
    lists = "ImageSets/Segmentation"
    voc = require(locate(place, f"{lists}/train.txt", unpack), place, "VOC2012 with ImageSets/Segmentation/train.txt")
    own_train, val = (voc.read(f"{lists}/{part}.txt").decode("utf-8", "replace").split() for part in ("train", "val"))
    own_masks = files_by_stem(voc, "SegmentationClass")
    sbd_masks, sbd_images = _sbd(voc, sbd, unpack)
    images = {**sbd_images, **files_by_stem(voc, "JPEGImages")}
    masks = {**sbd_masks, **{name: own_masks[name] for name in own_train if name in own_masks}}
    names = {"train_aug": sorted({*own_train, *sbd_masks} - {*val}), "val": list(dict.fromkeys(val))}
    pairs, warnings = {}, []
    if not sbd_masks:
        warnings.append("SBD is missing: only VOC's own training masks are taken; name its folder with --sbd")
    for part, part_masks in (("train_aug", masks), ("val", own_masks)):
        found, part_warnings = paired(names[part], images, part_masks, part)
        pairs[part] = [
            Pair(image, f"{part}/image/{name}.jpg", mask, f"{part}/label/{name}.png") for name, image, mask in found
        ]
        warnings += part_warnings
    warnings += compare_counts(len(pairs["train_aug"]), len(pairs["val"]), VOC_COUNTS)
    notes = [f"lists from {voc.describe(lists)}"]
    notes += [f"further masks as {first}" for first in [*sbd_masks.values()][:1]]
    return Plan(VOC, pairs["train_aug"], pairs["val"], _voc_indices, warnings=warnings, notes=notes)


def plan_city(place: Path, unpack: Unpack) -> Plan:
    """Plans Cityscapes from leftImg8bit and gtFine; raises InputError if one of them is not found.

    Its masks are label ids or, where these are missing, ready-made train ids.
    """
    image_source = require(locate(place, "leftImg8bit/train", unpack), place, "leftImg8bit/train")
    mask_source = require(locate(place, "gtFine/train", unpack), place, "gtFine/train")
    pairs, warnings = {}, []
    for part, cities in CITYSCAPES_CITIES.items():
        images = files_by_stem(image_source, f"leftImg8bit/{part}", "_leftImg8bit")
        masks = {
            **files_by_stem(mask_source, f"gtFine/{part}", "_gtFine_labelTrainIds"),
            **files_by_stem(mask_source, f"gtFine/{part}", "_gtFine_labelIds"),
        }
        found, part_warnings = paired(sorted(images), images, masks, part)
        pairs[part] = [
            Pair(image, f"images/{part}/{name}.png", mask, f"segmentation/{part}/{name}_gtFine.png")
            for name, image, mask in found
        ]
        per_city = Counter(name.split("_")[0] for name, _, _ in found)
        warnings += part_warnings
        warnings += [
            f"{part}: {per_city[city]} of {count} images of {city}"
            for city, count in cities.items()
            if per_city[city] < count
        ]
    warnings += compare_counts(len(pairs["train"]), len(pairs["val"]), CITYSCAPES_COUNTS)
    ready = sum(_holds_train_ids(str(pair.mask)) for pair in (*pairs["train"], *pairs["val"]))
    notes = [f"images from {image_source.describe('leftImg8bit')}, masks from {mask_source.describe('gtFine')}"]
    notes += [f"{ready:,} masks hold ready-made train ids, all others label ids"] if ready else []
    return Plan(CITYSCAPES, pairs["train"], pairs["val"], _city_indices, warnings=warnings, notes=notes)


def plan_camvid(place: Path, unpack: Unpack) -> Plan:
    """Plans CamVid in 11 classes; raises InputError if its folders are not found.

    These are `train/images` and `train/labels`, or SegNet's `train` and `trainannot`, and the same for `val`. The value
    11 in a mask means void.
    """
    pairs, warnings, notes = {}, [], []
    for part in ("train", "val"):
        folders = (f"{part}/images", f"{part}/labels")
        source = locate(place, folders[1], unpack)
        if source is None:
            folders = (part, f"{part}annot")
            source = locate(place, folders[1], unpack)
        source = require(source, place, f"{part}/images and {part}/labels, or {part} and {part}annot")
        images, masks = (files_by_stem(source, folder) for folder in folders)
        found, part_warnings = paired(sorted(images), images, masks, part)
        pairs[part] = [
            Pair(image, f"{part}/images/{name}{PurePosixPath(image.name).suffix}", mask, f"{part}/labels/{name}.png")
            for name, image, mask in found
        ]
        warnings += part_warnings
        notes.append(f"{part}: images from {source.describe(folders[0])}, masks from {source.describe(folders[1])}")
    warnings += compare_counts(len(pairs["train"]), len(pairs["val"]), CAMVID_COUNTS)
    return Plan(CAMVID, pairs["train"], pairs["val"], CAMVID_CODE.indices, warnings=warnings, notes=notes)


def _sbd(voc: Source, sbd: Path | None, unpack: Unpack) -> tuple[Mapping[str, File], Mapping[str, File]]:
    """Returns SBD's masks and its images by name.

    Without `sbd` these are the masks in SegmentationClassAug, which may lie in VOC's own folder, and no images.
    """
    if sbd is None:
        return files_by_stem(voc, "SegmentationClassAug"), {}
    for folder in ("cls", "SegmentationClassAug"):
        if source := locate(sbd, folder, unpack):
            break
    else:  # then `sbd` itself should be the folder of the masks
        source, folder = Folder(sbd), ""
    mats = {
        PurePosixPath(name).stem: File(source, name)
        for name in source.names(folder)
        if name.endswith(".mat") and is_shown(name)
    }
    masks = mats or files_by_stem(source, folder)
    if not masks:
        raise InputError(f"no SBD masks in {sbd}: expected cls/*.mat or SegmentationClassAug/*.png; name that folder")
    return masks, files_by_stem(source, "img")


def _voc_indices(content: bytes, name: str) -> np.ndarray:
    if name.endswith(".mat"):
        return VOC_CODE.translate(_sbd_mask(content, name), name)
    return VOC_CODE.indices(content, name)


def _city_indices(content: bytes, name: str) -> np.ndarray:
    return (TRAIN_IDS if _holds_train_ids(name) else LABEL_IDS).indices(content, name)


def _holds_train_ids(name: str) -> bool:
    return name.endswith("TrainIds.png")


def _sbd_mask(content: bytes, name: str) -> np.ndarray:
    """Returns the mask (H, W) uint8 in a `.mat` file of SBD, `GTcls.Segmentation`; InputError if it holds none."""
    from scipy.io import loadmat  # which takes long to import; only SBD needs it

    try:
        file: Any = BytesIO(content)  # scipy's types name paths only, although its manual also allows open files
        mask = np.asarray(loadmat(file)["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # loadmat raises whatever the damage leads it to
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(f"mask not readable: {name}: no .mat file of SBD: {reason}; replace it") from None
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise InputError(
            f"mask not readable: {name}: expected uint8 (H, W), found {mask.dtype} {mask.shape}; replace it"
        )
    return mask
