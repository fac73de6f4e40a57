"""Bad input of every kind ends in status 2 and one line that says what was expected, what was found and what to do."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from repository import REPOSITORY, copy_experiment

from furnace.__main__ import main
from furnace.config.settings import FIELDS
from furnace.engine import checkpoint
from furnace.engine import gpus as gpus_of_machine
from furnace.network.resnet import ResNet
from furnace.synthetic.layout import write_voc_layout

EXPERIMENT = REPOSITORY / "exp.voc" / "ensemble_teacher+cutmix"
SMALL = {
    "backbone": "resnet18_v1c", "width": "0.0625", "image_size": "32", "batch_size": "2", "nepochs": "1",
    "labeled_ratio": "8", "NGPUS": "0", "pretrained_model": "none",
}  # fmt: skip
LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
PUBLISHED = "resnet50_v1c"
PROGRESS_BAR = re.compile(r"^.*\d+/\d+ \[.*$")  # tqdm's, on standard error too
DECODER = re.compile(r"^\[ ?(WARN|ERROR):.*$")  # OpenCV's own remarks about a damaged image


@dataclass
class Place:
    """What one case works on; nothing of it is shared with another case."""

    root: Path
    shared_data: Path
    shared_runs: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def experiment(self) -> Path:
        return self.root / "experiment"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def own_data(self) -> Path:
        """A copy of the data set that may be broken."""
        if not (self.root / "data").exists():
            shutil.copytree(self.shared_data, self.root / "data")
            self.settings["dataset_path"] = str(self.root / "data")
        return self.root / "data"

    def run_of(self, method: str) -> Path:
        """A finished run of one epoch in OUTPUT_PATH."""
        shutil.copytree(self.shared_runs / method, self.output)
        return self.output

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def call(self, command: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.items():
                patch.setenv(name, value)
            return main([command, str(self.experiment)])


def make_place(root: Path, data: Path, runs: Path) -> Place:
    copy_experiment("exp.voc", root / "experiment")
    place = Place(root, data, runs)
    place.settings = {**SMALL, "dataset_path": str(data), "OUTPUT_PATH": str(place.output)}
    return place


@pytest.fixture(scope="module", autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting from outside; one thread, which is quickest for networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in (*FIELDS, *LAUNCHER):
            patch.delenv(name, raising=False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input") / "data"
    write_voc_layout(folder, images=20)  # 16 to train on, 2 of them labelled
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """One run with teachers and one without, each of one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("ema", "org"):
        (folder / f"{method}_place").mkdir()
        place = make_place(folder / f"{method}_place", data, folder)
        place.settings["method"] = method
        assert place.call("train") == 0
        place.output.rename(folder / method)
    return folder


@pytest.fixture
def place(tmp_path: Path, data: Path, runs: Path) -> Place:
    return make_place(tmp_path, data, runs)


def lines_of(stderr: str) -> list[str]:
    """What is left of standard error without progress bars and OpenCV's remarks."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr)]
    return [line for line in lines if line and not PROGRESS_BAR.match(line) and not DECODER.match(line)]


def fill(text: str, place: Place) -> str:
    return text.replace("<root>", str(place.root)).replace("<data>", str(place.shared_data))


# What the cases do to their place before the command runs.


def first_image(data: Path, which: str = "labeled_1-8", column: int = 0) -> Path:
    """The file that the first line of a list names."""
    path = data / "val.txt" if which == "val" else data / "subset_train_aug" / f"train_aug_{which}.txt"
    return data / path.read_text().splitlines()[0].split("\t")[column].lstrip("/")


def lose(which: str, column: int = 0) -> Callable[[Place], None]:
    return lambda place: first_image(place.own_data(), which, column).rename(place.root / "lost")


def truncate_image(which: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = first_image(place.own_data(), which)
        path.write_bytes(path.read_bytes()[:-300])

    return prepare


def write_list(name: str, content: bytes) -> Callable[[Place], None]:
    return lambda place: (place.own_data() / name).write_bytes(content)


def paint_label(value: int, which: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = first_image(place.own_data(), which, column=1)
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[5:9, 5:9] = value
        cv2.imwrite(str(path), label)
        if which == "val":
            place.run_of("ema")

    return prepare


def shrink_label(which: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        cv2.imwrite(str(first_image(place.own_data(), which, column=1)), np.zeros((10, 20), dtype=np.uint8))
        if which == "val":
            place.run_of("ema")

    return prepare


def ignore_all(place: Place) -> None:
    """Leaves no pixel of the labelled images with a class."""
    for path in (place.own_data() / "train_aug/label").iterdir():
        cv2.imwrite(str(path), np.full((10, 20), 255, dtype=np.uint8))


def colour_label(place: Place) -> None:
    cv2.imwrite(str(first_image(place.own_data(), column=1)), np.full((10, 20, 3), (0, 0, 128), dtype=np.uint8))


def overlap(place: Place) -> None:
    folder = place.own_data() / "subset_train_aug"
    labeled = (folder / "train_aug_labeled_1-8.txt").read_text().splitlines()[1].split("\t")[0]
    with open(folder / "train_aug_unlabeled_1-8.txt", "a") as file:
        file.write(f"{labeled}\n")


def own_dataset(declaration: str | None) -> Callable[[Place], None]:
    """An experiment that knows its data set by name, and a declaration in the data set's folder."""

    def prepare(place: Place) -> None:
        edit("config.py", "dataset=VOC", "dataset='field'")(place)
        if declaration is not None:
            (place.own_data() / "dataset.json").write_text(declaration)

    return prepare


def other_dataset(place: Place) -> None:
    (place.own_data() / "dataset.json").write_text('{"name": "field", "classes": ["ground", "plant"]}')


def file_in_the_way(place: Place) -> None:
    place.output.write_text("precious")


def circle(*names: str) -> Callable[[Place], None]:
    """Links that lead to themselves."""

    def prepare(place: Place) -> None:
        for name in names:
            (place.root / name).symlink_to(name)

    return prepare


def no_config(place: Place) -> None:
    (place.experiment / "config.py").unlink()


def no_network(place: Place) -> None:
    (place.experiment / "network.py").unlink()


def own_network(more: str, classes: str = "num_classes") -> Callable[[Place], None]:
    """A network.py whose network is one convolution of a single pixel."""
    text = f"from torch import nn\n\ndef build_network(num_classes):\n    return nn.Conv2d(3, {classes}, 1, {more})\n"
    return lambda place: (place.experiment / "network.py").write_text(text)


def edit(name: str, old: str, new: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        path = place.experiment / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return prepare


def finished(method: str, *then: Callable[[Place], None]) -> Callable[[Place], None]:
    """A finished run, then further changes."""

    def prepare(place: Place) -> None:
        place.run_of(method)
        for change in then:
            change(place)

    return prepare


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Place], None]:
    """Changes the bytes of one file of the run in OUTPUT_PATH."""

    def prepare(place: Place) -> None:
        path = place.output / name
        path.write_bytes(change(path.read_bytes()) if path.exists() else change(b""))

    return prepare


def resave(name: str, change: Callable[[dict], object]) -> Callable[[Place], None]:
    """Changes the content of one snapshot file and saves it well."""

    def prepare(place: Place) -> None:
        content = torch.load(place.output / name, weights_only=True)
        torch.save(change(content), place.output / name)

    return prepare


def without_key(content: dict) -> dict:
    del content["model"]["branch2.classifier.bias"]
    return content


def with_key(content: dict) -> dict:
    content["model"]["branch1.head.surplus"] = torch.zeros(1)
    return content


def with_foreign_key(content: dict) -> dict:
    content["model"]["iteration"] = torch.zeros(1)
    return content


def twenty_classes(place: Place) -> None:
    fewer = "replace(VOC, classes=VOC.classes[:20], palette=VOC.palette[:20])"
    edit("config.py", "dataset=VOC", f"dataset={fewer}")(place)
    edit("config.py", "from easydict", "from dataclasses import replace\n\nfrom easydict")(place)
    place.run_of("ema")


class Trap:
    """An object whose loading would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def trap(where: str, save: Callable[[object, Path], None]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        if where != "weights.pth":
            place.run_of("ema")
        path = place.root / "weights.pth" if where == "weights.pth" else place.output / where
        save({"model": Trap(place.root / "sprung")}, path)

    return prepare


def pickled(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def weights(
    change: Callable[[dict], object], backbone: str = "resnet18_v1c", width: float = 0.0625
) -> Callable[[Place], None]:
    """A file of backbone weights; whatever `change` makes of them is saved."""
    return lambda place: torch.save(change(ResNet(backbone, width).state_dict()), place.root / "weights.pth")


def drop(state: dict, name: str) -> dict:
    return {key: value for key, value in state.items() if key != name}


def no_first_resume_file(place: Place) -> None:
    (place.output / "resume.pth").unlink()


@dataclass(frozen=True)
class Case:
    name: str
    command: str
    settings: dict[str, str]
    fragments: tuple[str, ...]  # what the line must hold; <root> and <data> stand for the case's folders
    prepare: Callable[[Place], object] = lambda place: None


TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
OWN_WEIGHTS = {"pretrained_model": "<root>/weights.pth"}
SNAPSHOT = "snapshot/model_epoch1.pth"
TEACHER = "ema_snapshot/ema_branch2_epoch1.pth"
LISTS = "subset_train_aug/train_aug"

CASES = [
    # Values.
    Case("method", "train", {"method": "cps"}, ("method: expected one of supervised, org, ema", "'cps'", "set it")),
    Case("ensemble", "eval", {"ensemble": "v5"}, ("ensemble: expected one of all, v0,", "'v5'", "set it")),
    Case("ensemble list", "eval", {"ensemble": "v0,"}, ("ensemble: expected one of", "'v0,'")),
    Case("backbone", "train", {"backbone": "resnet52"}, ("backbone: expected one of resnet18_v1c", "'resnet52'")),
    Case("decoder", "train", {"decoder": "UPernet", "backbone": "resnet18"},
         ("decoder: expected published or one of Unet", "'UPernet' (perhaps UPerNet)")),
    Case("an encoder of the library with the published decoder", "train", {"backbone": "tu-convnext_atto"},
         ("backbone: expected one of resnet18_v1c, ", "decoder=published, found 'tu-convnext_atto'; another decoder")),
    Case("a published backbone with a decoder of the library", "train", {"decoder": "UPerNet", "backbone": PUBLISHED},
         ("backbone: expected an encoder of segmentation_models_pytorch", "'resnet50_v1c'", "set backbone=resnet50)")),
    Case("no encoder named", "train", {"decoder": "UPerNet", "backbone": ""},
         ("backbone: expected the name of an encoder for decoder=UPerNet, found none; set backbone",)),
    Case("size of a decoder", "train", {"decoder": "Linknet", "backbone": "tu-test_byobnet", "image_size": "40"},
         ("image_size: expected 32 or 64, the nearest that decoder=Linknet and backbone=tu-test_byobnet take",
         "found 40; set image_size=64")),
    Case("second student", "train", {"backbone_2": "resnet7_v1c"},
         ("student 2 (the settings that end in _2): backbone: expected one of resnet18_v1c", "'resnet7_v1c'")),
    Case("precision", "train", {"precision": "int8"}, ("precision: expected one of auto, fp32", "'int8'")),
    Case("batch 0", "train", {"batch_size": "0"}, ("batch_size: expected a whole number of at least 2", "'0'",
         "set it")),
    Case("batch -1", "train", {"batch_size": "-1"}, ("batch_size: expected a whole number of at least 2", "'-1'")),
    Case("batch 1", "train", {"batch_size": "1"}, ("batch_size: expected a whole number of at least 2", "'1'")),
    Case("batch word", "train", {"batch_size": "eight"}, ("batch_size: expected a whole number", "'eight'")),
    Case("batch fraction", "train", {"batch_size": "8.5"}, ("batch_size: expected a whole number", "'8.5'")),
    Case("batch too large", "train", {"batch_size": "16"}, ("batch_size 16 is larger than both lists", "14",
         "lower batch_size")),
    Case("image size", "train", {"image_size": "big"}, ("image_size: expected a whole number of at least 16", "'big'")),
    Case("image size small", "train", {"image_size": "8"}, ("image_size: expected a whole number of at least 16",
         "'8'")),
    Case("rate", "train", {"learning_rate": "nan"}, ("learning_rate: expected a finite number of at least 0", "'nan'")),
    Case("negative rate", "train", {"learning_rate": "-0.1"},
         ("learning_rate: expected a number of at least 0", "'-0.1'")),
    Case("decay", "train", {"ema_decay": "1.5"}, ("ema_decay: expected a number of at least 0 and at most 1", "'1.5'")),
    Case("width", "train", {"width": "0"}, ("width: expected a number of more than 0", "'0'")),
    Case("optimizer", "train", {"optimizer": "adam"}, ("optimizer: expected one of sgd, adamw", "'adam'", "set it")),
    Case("warm-up", "train", {"warmup_iterations": "1000"}, ("warmup_iterations: expected at most the ",
         " iterations of the run (", "found 1000; lower it")),
    Case("ramp one number", "train", {"cps_ramp": "0.3"}, ("cps_ramp: expected two numbers a,b with 0 <= a <= b <= 1",
         "'0.3'")),
    Case("ramp backwards", "train", {"cps_ramp": "0.6,0.3"}, ("cps_ramp: expected two numbers a,b", "'0.6,0.3'")),
    Case("scales", "train", {"train_scales": "1,x"}, ("train_scales: expected a number of at least 0.05", "'1,x'")),
    Case("flip", "eval", {"eval_flip": "perhaps"}, ("eval_flip: expected 0 or 1", "'perhaps'")),
    Case("workers", "train", {"num_workers": "-2"}, ("num_workers: expected auto, or a whole number", "'-2'")),
    Case("seed too long", "train", {"seed": "1" + 30 * "0"}, ("seed: expected a whole number", "'1000")),
    Case("keep", "train", {"keep_snapshots": "few"}, ("keep_snapshots: expected all, or a whole number", "'few'")),
    Case("resume word", "train", {"resume": "yes"}, ("resume: expected one of auto, never, force", "'yes'")),
    Case("labellers", "train", {"labellers": "crowd"}, ("labellers: expected one of none, students, teachers",
         "'crowd'")),
    Case("fp16 without GPU", "train", {"precision": "fp16"}, ("precision: fp16 needs a GPU", "the CPU",
         "precision=fp32 or bf16")),
    Case("fp16 without GPU in eval", "eval", {"precision": "fp16"}, ("precision: fp16 needs a GPU", "the CPU"),
         finished("ema")),
    Case("ratio without epochs", "train", {"labeled_ratio": "3", "nepochs": ""},
         ("labeled_ratio: 3", "config.py", "set nepochs")),
    Case("ratio without list", "train", {"labeled_ratio": "3"}, ("list not found: ", "train_aug_labeled_1-3.txt: "
         "expected that of labeled_ratio=3; draw it (python -m furnace prepare split ", " --ratio 3)")),
    # Processes.
    Case("NGPUS too many", "train", {"NGPUS": "64"}, ("NGPUS: 64 asked for, 0 visible", "NGPUS=0 to use the CPU")),
    Case("NGPUS negative", "train", {"NGPUS": "-1"}, ("NGPUS: expected all, or a whole number of at least 0", "'-1'")),
    Case("NNODES word", "train", {"NNODES": "two"}, ("NNODES: expected a whole number", "'two'", "set it")),
    Case("NNODES 0", "train", {"NNODES": "0"}, ("NNODES: expected a whole number", "'0'", "set it")),
    Case("no MASTER_ADDR", "train", {"NNODES": "2"}, ("MASTER_ADDR: not set, but NNODES is 2", "set it")),
    Case("batch not divisible", "train", {"WORLD_SIZE": "3", **TORCHRUN},
         ("batch_size: 2 cannot be shared out over 3 processes", "expected a multiple of 3",
         "change batch_size or NGPUS")),
    Case("WORLD_SIZE word", "train", {"WORLD_SIZE": "many", **TORCHRUN},
         ("WORLD_SIZE: expected a whole number", "'many'")),
    # The experiment folder.
    Case("no config.py", "train", {}, ("no experiment: <root>/experiment holds no config.py", "name a folder"),
         no_config),
    Case("no network.py", "train", {}, ("<root>/experiment/network.py is missing", "side by side"), no_network),
    Case("unknown setting in config.py", "train", {}, ("config.py: unknown setting cps_wait (perhaps cps_weight)",
         "expected one of"), edit("config.py", "cps_weight", "cps_wait")),
    Case("bad value in config.py", "train", {}, ("weight_decay: expected a number of at least 0", "'-1'"),
         edit("config.py", "weight_decay=2e-4", "weight_decay=-1")),
    Case("no data set in config.py", "train", {}, ("config.py", "dataset"), edit("config.py", "dataset=VOC,", "")),
    Case("no config in config.py", "train", {}, ("config.py", "config"),
         edit("config.py", "config = EasyDict", "settings = EasyDict")),
    Case("config.py breaks off", "train", {}, ("<root>/experiment/config.py", "SyntaxError"),
         edit("config.py", ")\n", "\n")),
    Case("no build_network", "train", {}, ("network.py", "build_network"),
         edit("network.py", "import build_network", "import build_network as make")),
    Case("own network of smaller maps", "train", {}, ("<root>/experiment/network.py: expected logits of 21 classes",
         "image_size=32: its logits are (2, 21, 16, 16), not (2, 21, 32, 32); mend the file"), own_network("stride=2")),
    Case("own network of other classes", "train", {}, ("<root>/experiment/network.py: expected logits of 21 classes",
         "its logits are (2, 22, 32, 32), not (2, 21, 32, 32)"), own_network("", classes="num_classes + 1")),
    Case("own network without a backbone to fill", "train", OWN_WEIGHTS, ("pretrained_model: <root>/weights.pth",
         "Conv2d has none; set pretrained_model=none"), own_network("")),
    # Data.
    Case("no data set", "train", {"dataset_path": "<root>/nowhere"}, ("dataset_path not found: <root>/nowhere", "voc",
         "set dataset_path")),
    Case("no list", "train", {}, ("list not found: <root>/data/subset_train_aug/train_aug_unlabeled_1-8.txt",
         "expected"), lambda place: (place.own_data() / f"{LISTS}_unlabeled_1-8.txt").unlink()),
    Case("a folder in the place of a list", "train", {"labeled_ratio": "3"},
         ("list not found: <root>/data/subset_train_aug/train_aug_labeled_1-3.txt", "found a folder"),
         lambda place: (place.own_data() / f"{LISTS}_labeled_1-3.txt").mkdir()),
    Case("no validation list", "eval", {}, ("list not found: <root>/data/val.txt", "expected"),
         lambda place: (place.run_of("ema"), (place.own_data() / "val.txt").unlink())),
    Case("empty list", "train", {}, ("list is empty: <root>/data/subset", "labeled_1-8.txt", "fill it"),
         write_list(f"{LISTS}_labeled_1-8.txt", b"\n \n")),
    Case("list not UTF-8", "train", {}, ("_unlabeled_1-8.txt: entry 1 is not UTF-8", "save the list as UTF-8"),
         write_list(f"{LISTS}_unlabeled_1-8.txt", b"/train_aug/image/b\xfccher.jpg\n")),
    Case("labelled list without labels", "train", {}, ("labeled_1-8.txt: entry 1 names no label", "a.jpg",
         "expected image<TAB>label"), write_list(f"{LISTS}_labeled_1-8.txt", b"/train_aug/image/a.jpg\n")),
    Case("no labelled image", "train", {}, ("file not found: <root>/data/train_aug/image/", "entry 1 of",
         "labeled_1-8.txt"), lose("labeled_1-8")),
    Case("no label", "train", {}, ("file not found: <root>/data/train_aug/label/", "entry 1 of", "mend the list"),
         lose("labeled_1-8", 1)),
    Case("no unlabelled image", "train", {}, ("file not found: <root>/data/train_aug/image/", "unlabeled_1-8.txt"),
         lose("unlabeled_1-8")),
    Case("no validation image", "eval", {}, ("file not found: <root>/data/val/image/", "val.txt"),
         lambda place: (place.run_of("ema"), lose("val")(place))),
    Case("truncated image", "train", {}, ("image not readable: <root>/data/train_aug/image/", "replace it"),
         truncate_image("unlabeled_1-8")),
    Case("truncated image in a worker", "train", {"num_workers": "1"},
         ("image not readable: <root>/data/train_aug/image/", "replace it"), truncate_image("labeled_1-8")),
    Case("label value", "train", {}, ("label value outside", "<root>/data/train_aug/label/", "holds 77",
         "0 to 20 or 255"), paint_label(77, "labeled_1-8")),
    Case("label value in eval", "eval", {}, ("label value outside", "<root>/data/val/label/", "holds 21;",
         "0 to 20 or 255"), paint_label(21, "val")),
    Case("sizes", "train", {}, ("image and label differ in size", "/train_aug/image/", "/train_aug/label/", "10 x 20"),
         shrink_label("labeled_1-8")),
    Case("sizes in eval", "eval", {}, ("image and label differ in size", "<root>/data/val/image/", "10 x 20",
         "val.txt"), shrink_label("val")),
    Case("colour label", "train", {}, ("label is a colour image: <root>/data/train_aug/label/", "found RGB",
         "convert it"), colour_label),
    Case("nothing labelled", "train", {}, ("nothing to learn from: <root>/data/", "train_aug_labeled_1-8.txt",
         "no pixel of its masks has a class", "mend the masks"), ignore_all),
    Case("absolute path", "train", {}, ("file not found: /elsewhere/image/scene_00002.jpg: named by entry 1 of",
         "labeled_1-8.txt: '/elsewhere/image/scene_00002.jpg"),
         write_list("subset_train_aug/train_aug_labeled_1-8.txt", b"/elsewhere/image/scene_00002.jpg\tx.png")),
    Case("list with commas", "train", {}, ("entry 1 names no label: 'a.jpg,a.png', which has a comma",),
         write_list("subset_train_aug/train_aug_labeled_1-8.txt", b"a.jpg,a.png\n")),
    Case("lists overlap", "train", {}, ("lists overlap: <root>/data/train_aug/image/", "train_aug_labeled_1-8.txt and ",
         "furnace prepare split"), overlap),
    # A data set that declares itself.
    Case("class with a space behind it", "train", {}, ("declaration not understood: <root>/data/dataset.json",
         "without spaces around them"), own_dataset('{"classes": ["ground ", "plant"]}')),
    Case("no declaration", "train", {}, ("no declaration: <data>/dataset.json",), own_dataset(None)),
    Case("declaration is no JSON", "train", {}, ("declaration not readable: <root>/data/dataset.json", "mend it"),
         own_dataset("{")),
    Case("declaration without classes", "train", {}, ("<root>/data/dataset.json: expected classes to be a list",),
         own_dataset("{}")),
    Case("class twice", "train", {}, ("dataset.json: expected every class once",),
         own_dataset('{"classes": ["a", "b", "a"]}')),
    Case("palette too short", "train", {}, ("2 classes but 1 colours",),
         own_dataset('{"classes": ["a", "b"], "palette": [[0, 0, 0]]}')),
    Case("ignore value is a class", "eval", {}, ("ignore value 1 is a class too", "choose another"),
         own_dataset('{"classes": ["a", "b"], "ignore_value": 1}')),
    Case("another data set", "train", {}, ("<root>/data declares itself as field with 2 classes",
         "expects voc with 21", "docs/own_data.md"), other_dataset),
    # Where a run writes.
    Case("file in the way", "train", {}, ("cannot write <root>/output", "a file stands where a folder"),
         file_in_the_way),
    Case("file above", "train", {"OUTPUT_PATH": "<root>/output/run"}, ("cannot write <root>/output/run",
         "a file stands where a folder is needed"), file_in_the_way),
    Case("circle of links", "train", {"OUTPUT_PATH": "<root>/circle"}, ("cannot write <root>/circle",),
         circle("circle")),
    Case("snapshot_dir in the way", "train", {"snapshot_dir": "<root>/experiment/config.py"},
         ("cannot write <root>/experiment/config.py",)),
    # ImageNet weights.
    Case("no weights", "train", OWN_WEIGHTS, ("pretrained_model not found: <root>/weights.pth",
         "torchvision://resnet50", "pretrained_model=none")),
    Case("unknown weights", "train", {"pretrained_model": "torchvision://resnet7"},
         ("unknown weights: torchvision://resnet7", "torchvision://resnet50")),
    Case("unknown version", "train", {"pretrained_model": "torchvision://resnet18@NONE"},
         ("unknown weights: torchvision://resnet18@NONE",)),
    Case("weights lack a key", "train", OWN_WEIGHTS, ("weights do not fit: <root>/weights.pth",
         "layer3.0.conv1.weight missing"), weights(lambda state: drop(state, "layer3.0.conv1.weight"))),
    Case("weights of another stem", "train", OWN_WEIGHTS, ("pretrained_model: <root>/weights.pth is ResNet-18",
         "7x7 stem", "backbone is resnet18_v1c", "set backbone=resnet18 or"), weights(dict, "resnet18")),
    Case("weights of another width", "train", OWN_WEIGHTS, ("pretrained_model: <root>/weights.pth is ResNet-18 v1c",
         "width is 0.0625", "set width=0.125 or"), weights(dict, width=0.125)),
    Case("weights of a deeper network", "train", OWN_WEIGHTS, ("pretrained_model: <root>/weights.pth is ResNet-34 v1c",
         "backbone is resnet18_v1c", "set backbone=resnet34_v1c or"), weights(dict, "resnet34_v1c")),
    Case("weights of no ResNet", "train", OWN_WEIGHTS, ("weights not recognised: <root>/weights.pth is no ResNet",
         "found a.weight", "name another file"), weights(lambda state: {"a.weight": torch.ones(1)})),
    Case("weights are a resume file", "train", {"pretrained_model": "<root>/output/resume.pth"},
         ("weights not recognised: <root>/output/resume.pth", "resume.pth (the networks lie beside it in snapshot)"),
         finished("ema")),
    Case("weights are a list", "train", OWN_WEIGHTS, ("<root>/weights.pth holds a list", "expected a dictionary"),
         weights(lambda state: [1])),
    Case("weights hold no tensors", "train", OWN_WEIGHTS, ("<root>/weights.pth",),
         weights(lambda state: {"state_dict": [1, 2]})),
    Case("weights by number", "train", OWN_WEIGHTS, ("<root>/weights.pth",), weights(lambda state: {1: torch.ones(1)})),
    Case("weights run code", "train", OWN_WEIGHTS, ("refused: <root>/weights.pth", "plain tensors"),
         trap("weights.pth", pickled)),
    Case("weights run code, zipped", "train", OWN_WEIGHTS, ("refused: <root>/weights.pth", "plain tensors"),
         trap("weights.pth", torch.save)),
    Case("weights are text", "train", OWN_WEIGHTS, ("<root>/weights.pth",),
         lambda place: (place.root / "weights.pth").write_text("hello")),
    Case("weights are empty", "train", OWN_WEIGHTS, ("<root>/weights.pth", "damaged"),
         lambda place: (place.root / "weights.pth").touch()),
    # Snapshots.
    Case("eval before training", "eval", {}, ("no snapshot found: <root>/output/snapshot", "model_epochN.pth",
         "train first")),
    Case("absent epoch", "eval", {"eval_epochs": "7"}, ("eval_epochs: no snapshot of epoch 7", "<root>/output",
         "there are 1"), finished("ema")),
    Case("absent range", "eval", {"eval_epochs": "1-3"}, ("eval_epochs: no snapshot of epoch 2", "there are 1"),
         finished("ema")),
    Case("epochs garbage", "eval", {"eval_epochs": "newest"}, ("eval_epochs: expected last, all, none, a range",
         "'newest'"), finished("ema")),
    Case("epochs backwards", "eval", {"eval_epochs": "5-3"}, ("eval_epochs: expected a range that ends after it starts",
         "'5-3'"), finished("ema")),
    Case("no teachers", "eval", {"ensemble": "v3"}, ("ensemble: v3 needs teachers", "<root>/output/ema_snapshot",
         "v0, v0_2, v2 or all"), finished("org")),
    Case("maps not evaluated", "eval", {"ensemble": "v0", "save_predictions": "v3"},
         ("save_predictions: v3 is not evaluated", "v0"), finished("ema")),
    Case("maps that will not be evaluated", "train", {"method": "org", "save_predictions": "v3"},
         ("save_predictions: v3 is not evaluated", "expected one of v0, v0_2, v2")),
    Case("snapshot of another backbone", "eval", {"backbone": "resnet34_v1c"},
         (f"weights do not fit: <root>/output/{SNAPSHOT}", "missing", "check backbone"), finished("ema")),
    Case("snapshot of another width", "eval", {"width": "0.125"}, (f"<root>/output/{SNAPSHOT}", "(4, 3, 3, 3)",
         "(8, 3, 3, 3)", "width"), finished("ema")),
    Case("run of other classes", "eval", {}, ("<root>/output: expected the classes of the run in their order",
         "put them back, or set dataset_path"), twenty_classes),
    Case("snapshot of other classes", "eval", {}, (f"<root>/output/{SNAPSHOT}", "classifier", "(21,", "(20,",
         "number of classes"), lambda place: (twenty_classes(place), (place.root / "output/config.json").unlink())),
    Case("snapshot lacks a key", "eval", {}, (f"<root>/output/{SNAPSHOT}", "classifier.bias missing"),
         finished("ema", resave(SNAPSHOT, without_key))),
    Case("snapshot with a surplus key", "eval", {}, (f"<root>/output/{SNAPSHOT}", "head.surplus not in the network"),
         finished("ema", resave(SNAPSHOT, with_key))),
    Case("snapshot with a foreign key", "eval", {}, (f"<root>/output/{SNAPSHOT}", "iteration not in the network"),
         finished("ema", resave(SNAPSHOT, with_foreign_key))),
    Case("snapshot without model", "eval", {}, (f"not a snapshot: <root>/output/{SNAPSHOT}", "'model'"),
         finished("ema", resave(SNAPSHOT, lambda content: {"weights": 1}))),
    Case("teacher is a list", "eval", {}, (f"<root>/output/{TEACHER} holds a list",),
         finished("ema", resave(TEACHER, lambda content: [1]))),
    Case("truncated snapshot", "eval", {}, (f"<root>/output/{SNAPSHOT}",),
         finished("ema", rewrite(SNAPSHOT, lambda file: file[:-1000]))),
    Case("truncated teacher", "eval", {}, (f"<root>/output/{TEACHER}",),
         finished("ema", rewrite(TEACHER, lambda file: file[:700]))),
    Case("empty snapshot", "eval", {}, (f"<root>/output/{SNAPSHOT}", "damaged"),
         finished("ema", rewrite(SNAPSHOT, lambda file: b""))),
    Case("snapshot is rubbish", "eval", {}, (f"<root>/output/{SNAPSHOT}",),
         finished("ema", rewrite(SNAPSHOT, lambda file: b"\x80\x02."))),
    Case("snapshot breaks off in a number", "eval", {}, (f"<root>/output/{SNAPSHOT}",),
         finished("ema", rewrite(SNAPSHOT, lambda file: b"\x80\x02J\x01"))),
    Case("snapshot runs code", "eval", {}, (f"refused: <root>/output/{SNAPSHOT}", "plain tensors"),
         trap(SNAPSHOT, torch.save)),
    Case("config.json is rubbish", "eval", {}, ("damaged file: <root>/output/config.json", "remove it"),
         finished("ema", rewrite("config.json", lambda file: b"{"))),
    Case("config.json is a list", "eval", {}, ("<root>/output/config.json",),
         finished("ema", rewrite("config.json", lambda file: b"[]"))),
    Case("log_df.csv is no table", "eval", {}, ("<root>/experiment/log_df.csv", "lacks the column log_file",
         "move it away"), finished("ema", lambda place: (place.experiment / "log_df.csv").write_text("a,b\n1,2\n"))),
    # Going on.
    Case("resume with another seed", "train", {"seed": "1"}, ("cannot resume with other settings: seed was 0, is 1",
         "resume=force"), finished("ema")),
    Case("resume as another method", "train", {"method": "org"},
         ("method was ema, is org", "choose another OUTPUT_PATH"), finished("ema")),
    Case("resume=never", "train", {"resume": "never"},
         ("snapshot_dir holds the snapshots of another run: <root>/output", "another OUTPUT_PATH", "set resume=auto"),
         finished("ema")),
    Case("resume with another network", "train", {}, ("cannot resume with other settings: network.py has changed; ",
         "choose another OUTPUT_PATH, or set resume=force"), finished("ema", edit("network.py", "__all__ =",
         "__all__ = 1 and"))),
    Case("snapshots without resume.pth", "train", {}, ("run, or of this one without its file resume.pth: <root>/output",
         "another OUTPUT_PATH", "remove", "put that file back"), finished("ema", no_first_resume_file)),
    Case("resume from a damaged snapshot", "train", {}, ("cannot resume: ", f"<root>/output/{SNAPSHOT}", "put a whole"),
         finished("ema", rewrite(SNAPSHOT, lambda file: file[:-9]))),
    Case("resume without a teacher", "train", {}, ("cannot resume", f"<root>/output/{TEACHER}", "missing"),
         finished("ema", lambda place: (place.output / TEACHER).unlink())),
    Case("resume file damaged", "train", {}, ("cannot resume", "<root>/output/resume.pth", "choose another"),
         finished("ema", rewrite("resume.pth", lambda file: file[: len(file) // 2]))),
    Case("resume file runs code", "train", {}, ("cannot resume: refused: <root>/output/resume.pth",),
         trap("resume.pth", torch.save)),
    Case("resume with other lists", "train", {"nepochs": "2", "resume": "auto"}, ("cannot resume", "list"),
         lambda place: (place.run_of("ema"), two_epochs_and_short_lists(place))),
    # Training itself.
    Case("loss not finite", "train", {"learning_rate": "1e30"}, ("loss_sup_1 is nan at iteration 1",
         "lower learning_rate", "<data>/train_aug/image/scene_", ".jpg")),
]  # fmt: skip


def two_epochs_and_short_lists(place: Place) -> None:
    """The run stopped after epoch 1 of 2, and half of the unlabelled list was lost since."""
    resave("resume.pth", lambda content: {**content, "settings": {**content["settings"], "nepochs": 2}})(place)
    path = place.own_data() / f"{LISTS}_unlabeled_1-8.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:7]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_and_status_2(case: Case, place: Place, capfd: pytest.CaptureFixture) -> None:
    place.settings |= {name: fill(value, place) for name, value in case.settings.items()}
    case.prepare(place)
    before = place.files()
    capfd.readouterr()
    status = place.call(case.command)
    stderr = capfd.readouterr().err
    lines = lines_of(stderr)
    assert status == 2
    assert len(lines) == 1 and lines[0].startswith("error: "), stderr
    assert "Traceback" not in stderr
    for fragment in case.fragments:
        assert fill(fragment, place) in lines[0]
    after = place.files()
    assert {path.name for path in before if after.get(path) != before[path]} <= {"train.log"}
    assert not (place.root / "sprung").exists()  # and no code in a file has run


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("batchsize=4", "unknown setting 'batchsize' (perhaps batch_size); expected NAME=VALUE, NAME being one of "),
        ("spam=4", "unknown setting 'spam'; expected NAME=VALUE, NAME being one of volna, "),
        ("labeled_ratio", "labeled_ratio: expected NAME=VALUE without spaces around the =, found 'labeled_ratio'; "),
        ("=4", "=4: expected NAME=VALUE without spaces around the =, found '=4'; "),
        ("Method=ema", "unknown setting 'Method' (perhaps method); "),
    ],
)
def test_unknown_arguments(place: Place, capfd: pytest.CaptureFixture, argument: str, said: str) -> None:
    assert main(["train", str(place.experiment), argument]) == 2
    lines = lines_of(capfd.readouterr().err)
    assert len(lines) == 1 and lines[0].startswith(f"error: {said}")


def test_missing_experiment_folder(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert main(["train", str(tmp_path / "exp.nowhere")]) == 2
    lines = lines_of(capfd.readouterr().err)
    assert len(lines) == 1
    assert lines[0].startswith(f"error: no experiment: {tmp_path}/exp.nowhere holds no config.py; name a folder")


@pytest.mark.parametrize(
    "arguments", [[], ["trian"], ["train"], ["train", ".", "--fast"], ["demo-data", "x", "--images", "many"]]
)
def test_bad_command_lines(arguments: list[str], capfd: pytest.CaptureFixture) -> None:
    try:
        status = main(arguments)
    except SystemExit as error:  # argparse's way, with its usage line
        status = error.code
    stderr = capfd.readouterr().err
    assert status == 2 and "error: " in stderr and "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [(["--images", "3"], "at least 10 images"), (["--seed", "-1"], "seed of 0 or more"), ([], "a new folder")],
)
def test_demo_data_refuses(tmp_path: Path, capfd: pytest.CaptureFixture, arguments: list[str], fragment: str) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert main(["demo-data", str(tmp_path), *arguments]) == 2
    lines = lines_of(capfd.readouterr().err)
    assert len(lines) == 1 and lines[0].startswith("error: demo data: ") and fragment in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(("batch_size", "gpus"), [("2", 3), ("6", 4)])
def test_batch_is_shared_out_evenly_over_gpus(place: Place, capfd, monkeypatch, batch_size: str, gpus: int) -> None:
    monkeypatch.setattr(gpus_of_machine, "gpus_to_use", lambda wanted: gpus)
    place.settings |= {"NGPUS": str(gpus), "batch_size": batch_size}
    assert place.call("train") == 2
    assert lines_of(capfd.readouterr().err) == [
        f"error: batch_size: {batch_size} cannot be shared out over {gpus} processes; "
        f"expected a multiple of {gpus}; change batch_size or NGPUS"
    ]


def test_arguments_win_over_the_environment_and_empty_texts_are_not_set(place: Place, capfd) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.settings.items():
            patch.setenv(name, value)
        patch.setenv("nepochs", "none at all")
        patch.setenv("seed", "")
        assert main(["train", str(place.experiment)]) == 2
        assert (
            "nepochs: expected a whole number of at least 1 and at most 1000000, found 'none at all'"
            in capfd.readouterr().err
        )
        assert main(["train", str(place.experiment), "nepochs=1"]) == 0


@pytest.mark.parametrize("form", ["environment", "argument"])
def test_debug_shows_the_traceback_and_the_line(place: Place, capfd: pytest.CaptureFixture, form: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("method", "cps")
        if form == "environment":
            patch.setenv("debug", "1")
        arguments = ["debug=1"] if form == "argument" else []
        patch.setattr(sys, "argv", ["furnace", "train", *arguments])  # debug is wanted before arguments are read
        assert main(["train", str(place.experiment), *arguments]) == 2
    stderr = capfd.readouterr().err
    assert "Traceback" in stderr and stderr.splitlines()[-1].startswith("error: method: expected one of")


def test_all_predictors_of_a_run_without_teachers_are_those_there_are(place: Place, capfd) -> None:
    place.run_of("org")
    place.settings["ensemble"] = "all"
    assert place.call("eval") == 0
    output = capfd.readouterr()
    assert "epoch 1 has no teachers: v1, v1_2, v3, v4 left out" in output.out
    assert lines_of(output.err) == []
    rows = (place.experiment / "log_df.csv").read_text().splitlines()
    assert [row.split(",")[6] for row in rows] == ["Ensemble", "v0", "v0_2", "v2"]


def test_a_run_killed_while_it_saved_its_first_snapshot_starts_again(place: Place, monkeypatch) -> None:
    """The students were written, then the process died: the next start must not take them for another run's."""
    save, saved = checkpoint.write_tensors, []

    def die_after_the_students(path: Path, content: dict) -> None:
        save(path, content)
        if path.parent.name == "snapshot":
            saved.append(path)
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_tensors", die_after_the_students)
    assert place.call("train") == 130 and len(saved) == 1
    monkeypatch.undo()
    assert place.call("train") == 0
    assert (place.output / "resume.pth").is_file()


def test_fewer_epochs_than_are_done_end_at_once_and_say_so(place: Place, capfd: pytest.CaptureFixture) -> None:
    place.run_of("ema")
    place.settings |= {"nepochs": "2", "resume": "force"}
    assert place.call("train") == 0
    before = place.files()
    place.settings["nepochs"] = "1"
    capfd.readouterr()
    assert place.call("train") == 0
    assert "nothing to do" in capfd.readouterr().out
    kept = {path for path in before if path.suffix == ".pth"}
    assert all(path.read_bytes() == before[path] for path in kept)


def environment(place: Place) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name not in (*FIELDS, *LAUNCHER)},
        **place.settings,
        "PYTHONPATH": str(REPOSITORY),
        "volna": str(REPOSITORY),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.mark.parametrize(
    ("command", "settings", "fragment"),
    [
        (["python", "-m", "furnace", "train", "experiment"], {"method": "cps"}, "method: expected one of"),
        (["bash", "experiment/train_ema.sh"], {"batch_size": "eight"}, "batch_size: expected a whole number"),
        (["bash", "experiment/eval.sh"], {}, "no snapshot found: "),
    ],
    ids=["python -m furnace", "train_ema.sh", "eval.sh"],
)
def test_real_commands_end_with_status_2(place: Place, command: list[str], settings: dict, fragment: str) -> None:
    result = subprocess.run(
        command, cwd=place.root, env=environment(place) | settings, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and fragment in lines[0]
    assert "Traceback" not in result.stdout + result.stderr
    assert not place.output.exists()
