"""What is refused before training: lists, batches and norms that cannot be learned with."""

from itertools import compress
from pathlib import Path

import pytest
from runs import make_experiment

from furnace.config.checks import check_start, check_training
from furnace.config.experiment import Experiment, read_experiment
from furnace.data.splits import draw_labeled
from furnace.errors import InputError

SUBSETS = "subset_train_aug/train_aug_{}_1-{}.txt"
NETWORK = {"pretrained_model": "none", "backbone": "resnet18_v1c", "width": "0.0625", "image_size": "32"}


@pytest.fixture
def lists(demo_data: Path, tmp_path: Path) -> Path:
    """Lists of the demo's 32 training images: all of them labelled by 1/1, a quarter by 1/4."""
    train = (demo_data / "train_aug.txt").read_text().splitlines()
    (tmp_path / "subset_train_aug").mkdir()
    (tmp_path / "val.txt").write_bytes((demo_data / "val.txt").read_bytes())
    for ratio in (1, 4):
        chosen = draw_labeled(len(train), ratio, seed=0)
        for name, entries in (("labeled", compress(train, chosen)), ("unlabeled", compress(train, ~chosen))):
            (tmp_path / SUBSETS.format(name, ratio)).write_text("".join(f"{entry}\n" for entry in entries))
    return tmp_path


def experiment(lists: Path, demo_data: Path, **texts: str) -> Experiment:
    folder = make_experiment(lists / "experiments" / str(len(list(lists.glob("experiments/*")))))
    told = {"dataset_path": str(demo_data), "lists_path": str(lists), "OUTPUT_PATH": str(lists / "run"), **NETWORK}
    return read_experiment(folder, {**told, "labeled_ratio": "1", "nepochs": "2", "batch_size": "4", **texts})


@pytest.mark.parametrize("texts", [{"method": "supervised"}, {"method": "ema", "labellers": "none"}])
def test_all_images_may_be_labelled_where_nobody_labels(lists: Path, demo_data: Path, texts: dict[str, str]) -> None:
    read = experiment(lists, demo_data, **texts)
    check_training(read)
    assert (len(read.split("labeled").files), len(read.split("unlabeled").files)) == (32, 0)


@pytest.mark.parametrize(
    ("texts", "said", "remedy"),
    [
        ({"method": "ema"}, "method ema", "set method=supervised or another labeled_ratio"),
        ({"method": "org"}, "method org", "set method=supervised or another labeled_ratio"),
        (
            {"method": "supervised", "labellers": "students"},
            "method supervised",
            "set labellers=none or another labeled_ratio",
        ),
    ],
)
def test_who_labels_needs_images_to_label(
    lists: Path, demo_data: Path, texts: dict[str, str], said: str, remedy: str
) -> None:
    with pytest.raises(InputError) as refused:
        check_start(experiment(lists, demo_data, **texts))
    path = lists / SUBSETS.format("unlabeled", 1)
    assert str(refused.value) == f"{said}: expected unlabelled images, found none in {path}; {remedy}"


@pytest.mark.parametrize("method", ["supervised", "org"])
def test_the_lists_of_other_ratios_must_name_images(lists: Path, demo_data: Path, method: str) -> None:
    (lists / SUBSETS.format("unlabeled", 4)).write_text("")
    with pytest.raises(InputError, match=r"list is empty: .*_unlabeled_1-4\.txt"):
        check_start(experiment(lists, demo_data, method=method, labeled_ratio="4"))


def test_the_labelled_list_must_name_images(lists: Path, demo_data: Path) -> None:
    (lists / SUBSETS.format("labeled", 1)).write_text("\n")
    with pytest.raises(InputError, match=r"list is empty: .*_labeled_1-1\.txt"):
        check_start(experiment(lists, demo_data, method="supervised"))


def test_epochs_are_asked_for_as_for_any_ratio_that_config_py_does_not_list(lists: Path, demo_data: Path) -> None:
    with pytest.raises(InputError) as refused:
        check_start(experiment(lists, demo_data, method="supervised", nepochs=""))
    assert str(refused.value) == "labeled_ratio: 1 has no number of epochs of its own in config.py; set nepochs"


def test_a_batch_larger_than_the_labelled_list_is_refused(lists: Path, demo_data: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size 33 is larger than both lists \(32 labelled, 0 unlabelled\)"):
        check_training(experiment(lists, demo_data, method="supervised", batch_size="33"))


@pytest.mark.parametrize("texts", [{}, {"pretrained_model": "resnet18_v1c.pth", "pretrained_model_2": "none"}])
def test_norms_are_frozen_only_where_their_statistics_are_pretrained(
    lists: Path, demo_data: Path, texts: dict[str, str]
) -> None:
    with pytest.raises(InputError) as refused:
        check_start(experiment(lists, demo_data, backbone_norm="frozen", labeled_ratio="4", **texts))
    assert str(refused.value) == (
        "backbone_norm=frozen: expected pretrained weights, whose statistics the norms keep, found "
        "pretrained_model=none; set pretrained_model, or backbone_norm=batch"
    )
