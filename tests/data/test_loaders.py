"""A sample depends on its place alone, not on workers, processes or where a run began; bad files are named."""

import errno
import multiprocessing
import os
import re
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from multiprocessing import process, resource_sharer
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from furnace.data import entries, images, loaders, netpbm, reading, samples
from furnace.data.datasets import VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.images import read_image, read_label
from furnace.data.loaders import batch_bytes, image_bytes, training_batches, validation_images
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from furnace.data.reading import crashes_named, handed_over, noted
from furnace.data.samples import Plan, RawBatch, TrainingSamples, iterations_per_epoch
from furnace.data.strong_augment import strong_view
from furnace.data.transforms import WeakView, draw_weak_view
from furnace.engine.signals import end_helpers
from furnace.errors import InputError
from furnace.semi.cutmix import cutmix_masks
from furnace.training.transfer import to_device

LABELED, UNLABELED, BATCH = 6, 12, 4
PLAN = Plan(
    batch_size=BATCH, iterations_per_epoch=UNLABELED // BATCH, iterations=2 * UNLABELED // BATCH, pairs_from=0,
    crop=24, scales=(0.5, 1.0, 1.5), with_strong=True, seed=3,
)  # fmt: skip


@pytest.fixture
def splits(tmp_path: Path) -> tuple[Split, Split]:
    """6 labelled and 12 unlabelled images of different sizes."""
    return make_split(tmp_path / "labeled", LABELED, with_labels=True), make_split(tmp_path / "unlabeled", UNLABELED)


def make_split(root: Path, count: int, with_labels: bool = False) -> Split:
    root.mkdir()
    random = np.random.default_rng(count)
    lines = []
    for number in range(count):
        size = 20 + number, 40 - number
        image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), image)
        cv2.imwrite(str(root / f"{number}_label.png"), image[..., 0] % 21)
        lines.append(f"{number}.png\t{number}_label.png" if with_labels else f"{number}.png")
    (root / "list.txt").write_text("\n".join(lines))
    return Split(VOC, root, FileList(root / "list.txt"), "train_aug")


def decoded(split: Split, every: int = 1) -> Split:
    """The same list, with a decoded copy in place of each `every`th image and label."""
    (split.root / "decoded").mkdir(exist_ok=True)
    lines = []
    for number, line in enumerate(split.files):
        names = line.split("\t")
        if number % every == 0:
            for column, name in enumerate(names):
                pixels = cv2.imread(str(split.root / name), cv2.IMREAD_UNCHANGED)
                names[column] = f"decoded/{Path(name).stem}{netpbm.ENDINGS[column]}"
                pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
                (split.root / names[column]).write_bytes(netpbm.file_bytes(pixels))
        lines.append("\t".join(names))
    (split.root / "decoded.txt").write_text("\n".join(lines))
    return replace(split, files=FileList(split.root / "decoded.txt"))


def samples_of(splits: tuple[Split, Split], plan: Plan) -> TrainingSamples:
    return TrainingSamples(*splits, plan, draw_mask=lambda size, random: cutmix_masks(1, size, random)[0])


def batches(
    splits: tuple[Split, Split], plan: Plan = PLAN, start: int = 0, rank: int = 0, processes: int = 1, workers: int = 0
) -> list[RawBatch]:
    return list(training_batches(samples_of(splits, plan), start, rank, processes, workers, pin_memory=False))


def files(splits: tuple[Split, Split], plan: Plan = PLAN) -> list[list[str]]:
    """Those of each iteration."""
    made = samples_of(splits, plan)
    return [made.files(plan.indices(iteration)) for iteration in range(plan.iterations)]


def tensors(batch: RawBatch) -> list[torch.Tensor]:
    lists = (batch.pair_weak, batch.pair_strong, batch.pair_box, batch.mask)
    return [batch.image, batch.box, batch.label, *(tensor for several in lists for tensor in several)]


def assert_same(found: Iterable[RawBatch], expected: Iterable[RawBatch]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(tensors(ours), tensors(theirs), strict=True))


def numbers(splits: tuple[Split, Split], plan: Plan, stream: int) -> list[list[int]]:
    """Which images of one stream (0 labelled, 1 and 2 unlabelled) each iteration shows."""
    return [[int(Path(file).stem) for file in names[stream::3]] for names in files(splits, plan)]


def test_batches_are_stacked_samples(splits) -> None:
    batch = batches(splits)[0]
    shapes = [tuple(tensor.shape) for tensor in tensors(batch)]
    images = [(BATCH, 24, 24, 3)] * 2
    boxes, masks = [(BATCH, 4)] * 2, [(BATCH, 1, 24, 24)]
    assert shapes == [images[0], boxes[0], (BATCH, 24, 24), *images, *images, *boxes, *masks]
    assert all(tensor.dtype == torch.uint8 for tensor in tensors(batch) if tensor.shape[-1] != 4)


def longhand_views(
    path: Path, random: np.random.Generator, plan: Plan, label: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A file's weak view, and its strong one or its label's weak one, each step by itself: (S, S, 3) or (S, S)."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    view = draw_weak_view(random, image.shape[:2], plan.crop, plan.scales)
    cut = np.s_[view.top : view.top + view.height, view.left : view.left + view.width]
    size = view.scaled_width, view.scaled_height

    def mirrored(pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(pixels[:, ::-1]) if view.mirrored else pixels

    def padded(pixels: np.ndarray, value: int) -> np.ndarray:
        across, down = plan.crop - view.scaled_width, plan.crop - view.scaled_height
        sides = (down // 2, down - down // 2, across // 2, across - across // 2)
        return cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_CONSTANT, value=(value,) * 3)

    weak = cv2.resize(mirrored(image[cut]), size, interpolation=cv2.INTER_LINEAR)
    if label is not None:
        return padded(weak, 0), padded(cv2.resize(mirrored(label[cut]), size, interpolation=cv2.INTER_NEAREST), 255)
    return padded(weak, 0), padded(strong_view(weak, random), 0)


@pytest.mark.parametrize("crop", [24, 64])
def test_batches_equal_longhand(splits, crop: int) -> None:
    """What is painted straight into a batch is what reading, cutting, resizing and padding give one after the other."""
    plan = replace(PLAN, crop=crop, scales=(0.5, 0.75, 1, 1.5, 1.75, 2))
    for iteration, (batch, names) in enumerate(zip(batches(splits, plan), files(splits, plan), strict=True)):
        epoch, first = plan.place(iteration * BATCH)
        for row in range(BATCH):
            randoms = [np.random.default_rng([plan.seed, stream, epoch, first + row]) for stream in range(4)]
            image, *pair = map(Path, names[3 * row : 3 * row + 3])
            label = cv2.imread(str(image).replace(".png", "_label.png"), cv2.IMREAD_UNCHANGED)
            expected_image, expected_label = longhand_views(image, randoms[0], plan, label)
            assert np.array_equal(batch.image[row], expected_image) and np.array_equal(batch.label[row], expected_label)
            for weak, strong, file, random in zip(batch.pair_weak, batch.pair_strong, pair, randoms[1:3], strict=True):
                expected_weak, expected_strong = longhand_views(file, random, plan)
                assert np.array_equal(weak[row], expected_weak) and np.array_equal(strong[row], expected_strong)
            assert np.array_equal(batch.mask[0][row], cutmix_masks(1, (crop, crop), randoms[3])[0])


@pytest.mark.parametrize("crop", [24, 64])
@pytest.mark.parametrize("every", [1, 2])
def test_decoded_files_give_the_same_batches(splits, crop: int, every: int, recwarn: pytest.WarningsRecorder) -> None:
    plan = replace(PLAN, crop=crop, scales=(0.5, 0.75, 1, 1.5, 1.75, 2))
    stored = decoded(splits[0], every), decoded(splits[1], every)
    assert_same(batches(stored, plan), batches(splits, plan))
    assert not recwarn.list


@pytest.mark.parametrize("workers", [0, 1])
def test_decoded_files_validate_the_same(splits, workers: int, recwarn: pytest.WarningsRecorder) -> None:
    expected = validation_images(splits[0], range(LABELED), 0)
    found = validation_images(decoded(splits[0]), range(LABELED), workers)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[2], theirs[2])
    assert not recwarn.list  # as torch gives for arrays that must not be written to


def test_ignored_pixels_of_a_decoded_mask(splits) -> None:
    """Another value than 255 marks them in its file."""
    dataset = replace(VOC, classes=VOC.classes[:20], palette=VOC.palette[:20], ignore_value=20)
    theirs, ours = (tuple(replace(split, dataset=dataset) for split in pair) for pair in (splits, map(decoded, splits)))
    label = read_label(splits[0].root / "0_label.png", 21)
    assert (label == 20).any() and (ours[0].label(0) == np.where(label == 20, 255, label)).all()
    assert_same(batches(ours), batches(theirs))


def test_a_crop_alone_of_a_decoded_mask_is_checked(splits) -> None:
    """And all of it where all of it is read, or where it must be decoded."""
    stored = decoded(splits[0])
    path = stored.label_path(0)
    label = np.zeros(splits[0].label(0).shape, dtype=np.uint8)
    label[-1, -1] = 77
    path.write_bytes(netpbm.file_bytes(label))
    said = f"{path} holds 77; expected 0 to 20 or 255"
    image, part = stored.labeled_to_cut(0)
    assert part.shape == label.shape == image.shape[:2] and not part[:-1, :].any()
    for read in (lambda: part[-1:, :], lambda: stored.labeled(0), lambda: stored.label(0)):
        with pytest.raises(InputError, match=said):
            read()
    cv2.imwrite(str(splits[0].label_path(0)), label)
    with pytest.raises(InputError, match=r"0_label\.png holds 77"):
        splits[0].labeled_to_cut(0)
    canvas = np.zeros((24, 24), dtype=np.uint8)
    with pytest.raises(InputError, match=said):  # before a resizing that would leave the pixel out
        WeakView(0, 0, *label.shape, 10, 10, mirrored=False).paint_label(part, canvas)


def test_each_file_is_read_once_an_iteration(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    for module in (entries, samples):
        monkeypatch.setattr(module, "read_image", lambda path: read.append(str(path)) or read_image(path))
    batches(splits)
    assert Counter(file for names in files(splits) for file in names) == Counter(read)


def test_a_worker_keeps_to_one_thread_and_lasts_for_the_run(splits) -> None:
    class Reporting(TrainingSamples):
        def __getitem__(self, indices: range) -> tuple[int, int, int]:
            return os.getpid(), torch.get_num_threads(), cv2.getNumThreads()

    reports = list(training_batches(Reporting(*splits, PLAN, draw_mask=None), 0, 0, 1, workers=2, pin_memory=False))
    assert len(reports) == PLAN.iterations and len({process for process, _, _ in reports}) == 2
    assert os.getpid() not in {process for process, _, _ in reports}
    assert {threads for _, *threads in reports for threads in threads} == {1}


def test_workers_change_nothing(splits) -> None:
    assert_same(batches(splits, workers=2), batches(splits))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_one_batch(splits, processes: int) -> None:
    shares = [batches(splits, rank=rank, processes=processes) for rank in range(processes)]
    for whole, *parts in zip(batches(splits), *shares, strict=True):
        for expected, *found in zip(tensors(whole), *map(tensors, parts), strict=True):
            assert torch.equal(expected, torch.cat(found))


@pytest.mark.parametrize("start", [1, 3, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_in_the_middle_goes_on_the_same(splits, start: int, workers: int) -> None:
    assert_same(batches(splits, start=start, workers=workers), batches(splits)[start:])


def test_a_start_at_the_end_gives_nothing(splits) -> None:
    assert batches(splits, start=PLAN.iterations) == []


def test_seed_changes_order_and_views(splits) -> None:
    ours, theirs = batches(splits)[0], batches(splits, replace(PLAN, seed=4))[0]
    assert files(splits)[0] != files(splits, replace(PLAN, seed=4))[0]
    assert all(not torch.equal(a, b) for a, b in zip(tensors(ours), tensors(theirs), strict=True))


def test_pairs_are_absent_before_they_are_used_and_the_same_afterwards(splits) -> None:
    late_plan = replace(PLAN, pairs_from=2)
    full, late = batches(splits), batches(splits, late_plan)
    assert_same(late[2:], full[2:])
    assert files(splits, late_plan) == [names[::3] for names in files(splits)[:2]] + files(splits)[2:]
    for early, whole in zip(late[:2], full[:2], strict=True):
        assert early.pair_weak == early.pair_strong == early.pair_box == early.mask == []
        assert torch.equal(early.image, whole.image) and torch.equal(early.label, whole.label)


def test_where_no_pairs_are_used_the_unlabelled_list_may_be_empty(splits) -> None:
    labeled, unlabeled = splits
    (unlabeled.root / "none.txt").write_text("")
    without = labeled, replace(unlabeled, files=FileList(unlabeled.root / "none.txt", may_be_empty=True))
    plan = replace(PLAN, pairs_from=PLAN.iterations)
    assert_same(batches(without, plan), batches(splits, plan))
    assert files(without, plan) == files(splits, plan)


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "expected"), [(12, 0, 3), (13, 0, 3), (3, 0, 0), (12, 6, 3), (6, 21, 5)]
)
def test_iterations_of_an_epoch_follow_the_longer_list(labeled: int, unlabeled: int, expected: int) -> None:
    assert iterations_per_epoch(labeled, unlabeled, batch_size=4) == expected


def test_without_strong_view_the_rest_is_the_same(splits) -> None:
    for weak, full in zip(batches(splits, replace(PLAN, with_strong=False)), batches(splits), strict=True):
        assert weak.pair_strong == []
        assert_same([weak], [full._replace(pair_strong=[])])


def test_strong_view_is_the_weak_one_with_other_colours(splits) -> None:
    """Same box, nothing painted outside it, about half of them unchanged."""
    changed = []
    for batch in batches(splits, replace(PLAN, iterations=30)):
        for weak, strong, boxes in zip(batch.pair_weak, batch.pair_strong, batch.pair_box, strict=True):
            for one, other, (top, bottom, left, right) in zip(weak, strong, boxes.tolist(), strict=True):
                outside = torch.ones(24, 24, dtype=torch.bool)
                outside[top:bottom, left:right] = False
                assert not one[outside].any() and not other[outside].any()
                changed.append(not torch.equal(one, other))
    assert 0.35 < np.mean(changed) < 0.65


def test_image_and_label_of_a_sample_fit(splits) -> None:
    """The labels were painted from the blue channel; where nothing is resized they still fit it."""
    for batch in batches(splits, replace(PLAN, scales=(1.0,))):
        for image, label, (top, bottom, left, right) in zip(batch.image, batch.label, batch.box.tolist(), strict=True):
            part = np.s_[top:bottom, left:right]
            assert torch.equal(image[part][..., 2] % 21, label[part])
            label[part] = 255
            assert (label == 255).all()


def test_the_two_unlabelled_streams_differ(splits) -> None:
    assert numbers(splits, PLAN, stream=1) != numbers(splits, PLAN, stream=2)
    one = splits[0], make_split(splits[0].root / "one", 1)
    for batch in batches(one, replace(PLAN, crop=8)):  # of one image, two different views
        assert not torch.equal(batch.pair_weak[0], batch.pair_weak[1])


def test_masks_differ_between_samples(splits) -> None:
    masks = torch.cat([batch.mask[0] for batch in batches(splits)])
    assert masks.max() == 1
    assert len({mask.numpy().tobytes() for mask in masks}) == len(masks)


def test_views_of_one_image_differ_from_epoch_to_epoch(splits) -> None:
    shown = Counter()
    plan = replace(PLAN, iterations=12, crop=8)
    for batch, shows in zip(batches(splits, plan), numbers(splits, plan, stream=0), strict=True):
        for number, image in zip(shows, batch.image, strict=True):
            shown[number, image.numpy().tobytes()] += 1
    assert max(shown.values()) == 1


@pytest.mark.parametrize(("labeled", "unlabeled"), [(6, 12), (12, 6), (12, 12), (4, 12), (1, 12)])
def test_an_epoch_goes_once_through_the_longer_list(tmp_path: Path, labeled: int, unlabeled: int) -> None:
    lists = make_split(tmp_path / "l", labeled, with_labels=True), make_split(tmp_path / "u", unlabeled)
    orders = []
    for epoch in (slice(0, 3), slice(3, 6)):
        for stream, length in enumerate((labeled, unlabeled, unlabeled)):
            order = list(chain.from_iterable(numbers(lists, PLAN, stream)[epoch]))
            assert Counter(order) == dict.fromkeys(range(length), 12 // length)  # the shorter list: evenly
            for first in range(0, 12, length):  # each pass is complete before the next begins
                assert sorted(order[first : first + length]) == list(range(length))
            orders.append(tuple(order))
    if labeled > 1:
        assert len(set(orders)) == 6  # reshuffled, every stream and epoch by itself


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("broken", ["labeled/2.png", "unlabeled/5.png", "labeled/3_label.png"])
def test_a_bad_file_is_named_from_any_worker(splits, workers: int, broken: str) -> None:
    path = splits[0].root.parent / broken
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole image file") as error:
        batches(splits, workers=workers)
    assert str(path) in str(error.value) and "\n" not in str(error.value)  # no worker's traceback


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_outside_the_classes_is_named_from_any_worker(splits, workers: int) -> None:
    path = splits[0].root / "4_label.png"
    cv2.imwrite(str(path), np.full((24, 36), 77, dtype=np.uint8))
    validated = validation_images(splits[0], range(LABELED), workers)
    for read in (lambda: batches(splits, workers=workers), lambda: list(validated)):
        with pytest.raises(InputError, match=f"{path} holds 77; expected 0 to 20 or 255") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 4])
def test_processes_share_out_validation(splits, workers: int, processes: int) -> None:
    split = splits[0]
    seen = {}
    for rank in range(processes):
        for number, image, label in validation_images(split, range(rank, len(split.files), processes), workers):
            assert number not in seen and number % processes == rank
            assert np.array_equal(image, split.image(number)) and np.array_equal(label, split.label(number))
            seen[number] = image
    assert sorted(seen) == list(range(LABELED))


def test_normalize_equals_longhand() -> None:
    image = torch.randint(0, 256, (3, 9, 11, 3), dtype=torch.uint8)
    box = torch.tensor([(0, 9, 0, 11), (2, 7, 0, 11), (1, 2, 3, 9)])
    before = image.clone()
    found = normalize(image, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD), box)
    unboxed = normalize(image, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))
    expected = (image.numpy().astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    expected = expected.transpose(0, 3, 1, 2)  # (B, 3, H, W)
    np.testing.assert_allclose(unboxed.numpy(), expected, rtol=0, atol=1e-6)
    for number, (top, bottom, left, right) in enumerate(box.tolist()):
        outside = np.ones((9, 11), dtype=bool)
        outside[top:bottom, left:right] = False
        expected[number][:, outside] = 0
        assert not found[number].numpy()[:, outside].any()
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)
    assert found.dtype == torch.float32 and torch.equal(image, before)


@pytest.mark.parametrize("channels_last", [False, True])
def test_to_device_normalizes_every_view(splits, channels_last: bool) -> None:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    first, last = batches(splits, replace(PLAN, pairs_from=1))[:2]
    early = to_device(first, torch.device("cpu"), mean, std, channels_last)
    assert early.weak is early.strong is early.mask is None
    batch = to_device(last, torch.device("cpu"), mean, std, channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    views = [(batch.image, last.image, last.box)]
    views += zip(batch.weak, last.pair_weak, last.pair_box, strict=True)
    views += zip(batch.strong, last.pair_strong, last.pair_box, strict=True)
    assert len(views) == 5
    for found, raw, box in views:
        assert torch.equal(found, normalize(raw, mean, std, box)) and found.is_contiguous(memory_format=layout)
    assert torch.equal(batch.label, last.label) and torch.equal(batch.mask, last.mask[0])


@contextmanager
def told_as(message: str) -> Iterator[None]:
    """Expects an InputError; a worker that crashes later than expected does not end pytest instead."""
    try:
        with pytest.raises(InputError, match=message):
            yield
    finally:
        end_helpers()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("broken", ["labeled/2.png", "unlabeled/5.png", "labeled/3_label.png"])
def test_a_worker_that_crashes_names_the_file_it_was_at(
    splits, monkeypatch: pytest.MonkeyPatch, how: signal.Signals, broken: str
) -> None:
    path = splits[0].root.parent / broken

    def crash_at(decode: Callable) -> Callable:
        def decode_or_crash(content: np.ndarray, name: Path, *rest: object, **more: object) -> np.ndarray:
            if name == path:
                signal.signal(how, signal.SIG_DFL) if how != signal.SIGKILL else None  # pytest watches SIGSEGV
                os.kill(os.getpid(), how)
            return decode(content, name, *rest, **more)

        return decode_or_crash

    for name in ("decode_image", "decode_mask"):
        monkeypatch.setattr(images, name, crash_at(getattr(images, name)))
    with told_as(f"worker that loads data .*, while at {re.escape(str(path))};"), crashes_named():
        batches(splits, workers=2)


def test_a_worker_that_takes_long_to_crash_is_not_one_that_cannot_hand_over(
    splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system closes what a process has open before it tells the parent of its end: the main process meets that."""
    of_a_batch = 3 * BATCH
    decoded = 0  # images, by each worker
    closed, met = multiprocessing.Semaphore(0), multiprocessing.Event()

    def decode_or_crash(content: np.ndarray, name: Path, *rest: object) -> np.ndarray:
        nonlocal decoded
        decoded += 1
        if decoded > of_a_batch:
            sys.excepthook = lambda *_: time.sleep(1)  # a thread says that it cannot hand over the batch before
            while not (listener := resource_sharer._resource_sharer._listener):
                time.sleep(0.01)
            listener._listener._socket.shutdown(socket.SHUT_RDWR)
            closed.release()
            met.wait(2)
            os.kill(os.getpid(), signal.SIGKILL)
        return decode_image(content, name, *rest)

    def tell_and_wait(_: float) -> None:
        met.set()
        threading.Event().wait(10)

    decode_image = images.decode_image
    monkeypatch.setattr(images, "decode_image", decode_or_crash)
    monkeypatch.setattr(reading, "time", SimpleNamespace(sleep=tell_and_wait))
    with told_as(r"is killed by signal: Killed, while at .*/labeled/\d\.png;"):
        for _ in training_batches(samples_of(splits, PLAN), 0, 0, 1, workers=2, pin_memory=False):
            assert closed.acquire(timeout=30) and closed.acquire(timeout=30)  # by both workers


def test_an_error_in_a_worker_names_the_file_it_had_read(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(content: np.ndarray, name: Path, tell: Callable) -> np.ndarray:
        raise ZeroDivisionError

    monkeypatch.setattr(images, "decode_image", bug)
    with pytest.raises(ZeroDivisionError, match=r"the file read last: .*labeled/\d\.png"):
        batches(splits, workers=1)


def test_a_worker_does_not_tell_that_its_parent_has_given_up(capsys: pytest.CaptureFixture) -> None:
    """The thread that hands memory over would print the traceback of its lost connection."""
    for error in (ConnectionResetError("by peer"), EOFError(), ValueError("a fault")):
        loaders._say_unless_parent_left(type(error), error, None)
    assert capsys.readouterr().err == "ValueError: a fault\n"


def test_other_errors_are_not_taken_for_crashes() -> None:
    with pytest.raises(RuntimeError, match="something else"), crashes_named():
        raise RuntimeError("something else")


@pytest.mark.parametrize("with_strong", [True, False])
def test_bytes_of_a_batch_and_of_an_image(splits, with_strong: bool) -> None:
    plan = replace(PLAN, with_strong=with_strong)
    batch = batches(splits, plan, processes=2)[0]
    boxes = sum(box.nbytes for box in [batch.box, *batch.pair_box])
    assert batch_bytes(plan, 2) == sum(tensor.nbytes for tensor in tensors(batch)) - boxes
    assert image_bytes(splits[0], [0, 2]) == 4 * (20 * 40 + 22 * 38) // 2
    (splits[0].root / "0.png").unlink()
    assert image_bytes(splits[0], [0, 2]) == 4 * 22 * 38 and image_bytes(splits[0], [0]) == 0


class Unsent(TrainingSamples):
    """What it makes cannot be sent to another process."""

    def __getitem__(self, indices: range) -> Callable:
        return lambda: indices


def test_a_batch_that_cannot_be_sent_ends_the_wait_for_it(splits) -> None:
    unsent = training_batches(Unsent(*splits, PLAN, draw_mask=None), 0, 0, 1, workers=2, pin_memory=False)
    with pytest.raises(InputError, match=r"workers cannot hand over .*pickle.*; lower num_workers; 0 does without"):
        next(unsent)


def test_too_long_a_path_for_sockets(splits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    Path(tempfile.tempdir).mkdir()
    monkeypatch.setattr(process.current_process(), "_config", dict(process.current_process()._config, tempdir=None))
    with pytest.raises(InputError, match="AF_UNIX path too long; set TMPDIR to a shorter path"):
        batches(splits, workers=1)


@pytest.mark.parametrize("more", [0, 12, 30])  # too few for the workers' pipes, for the workers, and for what they send
def test_too_few_open_files(splits, more: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + more, hard))
    try:
        with pytest.raises(InputError, match=r"open files.*; allow more open files \(ulimit -n 4096\)"):
            batches(splits, workers=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "enlarge /dev/shm"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space"), "enlarge /dev/shm"),
        (RuntimeError("unable to mmap 8 bytes from file: Cannot allocate memory (12)"), "lower num_workers"),
        (RuntimeError("received 0 items of ancdata"), "allow more open files"),
        (RuntimeError("Pin memory thread exited unexpectedly"), "allow more open files"),
        (RuntimeError("can't start new thread"), "allow more processes"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "allow more processes"),
        (EOFError(), "0 does without workers"),
    ],
)
def test_what_helps_a_hand_over(error: Exception, said: str) -> None:
    expected = f"^workers cannot hand over what they have read: .*{said}"
    with pytest.raises(InputError, match=expected) as raised, handed_over():
        raise error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("Caught OSError in DataLoader worker process 0.")])
def test_other_errors_are_no_failed_hand_over(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, handed_over():
        raise error
    assert raised.value is error


def test_a_file_that_becomes_shorter_while_it_is_looked_at_is_named(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*drawn: object) -> WeakView:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # pytest watches it
        if (path := noted(os.getpid())).endswith(".ppm"):
            os.truncate(path, 0)
        return draw_weak_view(*drawn)

    monkeypatch.setattr(samples, "draw_weak_view", cut)
    expected = (
        r"bus error: no room in /dev/shm, or a file became shorter, .*: /.*/unlabeled/decoded/\d+\.ppm or the one"
    )
    with pytest.raises(InputError, match=expected) as error:
        batches((splits[0], decoded(splits[1])), workers=1)
    assert "\n" not in str(error.value)


def test_a_bus_error_is_full_shared_memory_and_not_an_image(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(content: np.ndarray, *_: object) -> np.ndarray:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # pytest watches it
        os.kill(os.getpid(), signal.SIGBUS)

    monkeypatch.setattr(images, "decode_image", die)
    with pytest.raises(InputError, match="bus error: no room in /dev/shm; enlarge /dev/shm") as error:
        batches(splits, workers=2)
    assert ".png" not in str(error.value)
