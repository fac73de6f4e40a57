"""Labelled and unlabelled lists: they part the training list, are drawn once, and never overlap."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnace.data.datasets import CAMVID, VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.splits import cover_classes, draw_labeled, first_in_both, may_be_empty


@pytest.mark.parametrize("count", [1, 7, 367, 1000])
def test_so_many_are_labelled(count: int) -> None:
    assert [draw_labeled(count, ratio, 0).sum() for ratio in (16, 8, 4, 2)] == [
        max(1, count // ratio) for ratio in (16, 8, 4, 2)
    ]


def test_draws_are_nested_repeatable_and_drawn() -> None:
    drawn = {ratio: draw_labeled(367, ratio, 0) for ratio in (16, 8, 4, 2)}
    for small, large in ((16, 8), (8, 4), (4, 2)):
        assert drawn[large][drawn[small]].all()
    assert (draw_labeled(367, 8, 0) == drawn[8]).all() and (draw_labeled(367, 8, 1) != drawn[8]).any()
    assert not drawn[2][: drawn[2].sum()].all()


def test_ratio_1_labels_all() -> None:
    assert draw_labeled(367, 1, 0).all() and draw_labeled(367, 1, 5).all()


def test_the_unlabelled_list_alone_may_be_empty_and_only_where_all_are_labelled() -> None:
    roles, ratios = ("train", "labeled", "unlabeled", "extra", "val"), (1, 2, 11, 16, "1", "8", "01", "")
    assert {(role, ratio) for role in roles for ratio in ratios if may_be_empty(role, ratio)} == {
        ("unlabeled", 1),
        ("unlabeled", "1"),
    }


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5), st.integers(0, 10))
def test_draws_contain_what_comes_first(count: int, ratio: int, seed: int, wanted: int) -> None:
    labeled = max(1, count // ratio)
    first = np.random.default_rng(seed + 1).permutation(count)[: min(wanted, labeled)].tolist()
    chosen = draw_labeled(count, ratio, seed, first)
    assert chosen.sum() == labeled and chosen[first].all()
    assert (draw_labeled(count, 2 * ratio, seed, first[:1])[first[:1]]).all()


@given(st.lists(st.sets(st.integers(0, 6), max_size=4), min_size=1, max_size=12), st.randoms())
def test_cover_shows_every_class_and_wastes_nothing(shown: list[set[int]], random) -> None:
    order = random.sample(range(len(shown)), len(shown))
    first = cover_classes(shown, order)
    assert set().union(*(shown[index] for index in first)) == set().union(*shown)
    seen: set[int] = set()
    for index in first:  # each adds most of what is missing then
        assert len(shown[index] - seen) == max(len(other - seen) for other in shown) > 0
        seen |= shown[index]


def listed(dataset, root: Path, name: str, entries: Sequence[str]) -> Split:
    (root / name).write_text("\n".join(entries), encoding="utf-8")
    return Split(dataset, root, FileList(root / name, may_be_empty=True), dataset.train_folder)


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "shared"),
    [
        (["a", "b"], ["c", "d"], None),
        (["a", "b"], [], None),
        (["a", "b"], ["c", "b"], "train_aug/image/b.jpg"),
        (["a", "b"], ["/train_aug/image/b.jpg"], "train_aug/image/b.jpg"),
        (["JPEGImages/b.jpg SegmentationClass/b.png"], ["b"], "train_aug/image/b.jpg"),
        (["/x/0001.jpg\t/x/0001.png"], ["/y/0001.jpg", "/x/0002.jpg"], None),  # frames of different films
        (["/x/0001.jpg\t/x/0001.png"], ["/y/0001.jpg", "/x/0001.jpg"], "x/0001.jpg"),
        (["/x/a.b.jpg\t/x/a.b.png"], ["/x/a.c.jpg"], None),
    ],
)
def test_overlap_is_found(tmp_path: Path, labeled: list[str], unlabeled: list[str], shared: str | None) -> None:
    for name in ("train_aug", "x", "y"):
        (tmp_path / name).mkdir()
    found = first_in_both(listed(VOC, tmp_path, "l.txt", labeled), listed(VOC, tmp_path, "u.txt", unlabeled))
    assert found == (None if shared is None else tmp_path / shared)


def test_overlap_follows_the_layout(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    labeled = listed(CAMVID, tmp_path, "l.txt", ["0001TP"])
    assert first_in_both(labeled, listed(CAMVID, tmp_path, "u.txt", ["/train/images/0001TP.jpg"])) is not None
