"""`predict` labels whatever images it is given as an evaluation would, and says which ones it could not."""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from photos import files_below, noise, write, write_clip, write_photos
from PIL import Image
from runs import TrainedRun, train
from torch.nn.functional import conv2d

from furnace.__main__ import main
from furnace.config.experiment import read_experiment
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.engine import files, memory
from furnace.errors import InputError
from furnace.evaluation import room
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.prediction import inputs, outputs, predictor
from furnace.prediction.inputs import find_sources
from furnace.prediction.outputs import DISAGREEMENT, overlay
from furnace.semi.ensemble import count_different

EXIF_ORIENTATION = 274


@pytest.fixture(scope="module")
def trained(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return train(tmp_path_factory.mktemp("predict"), demo_data)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "my photos")


@pytest.fixture
def predict(trained: TrainedRun, tmp_path: Path) -> Callable[..., int]:
    """Runs the command into `out`; returns its exit status."""

    def run(*arguments: object) -> int:
        fixed = ["predict", str(trained.experiment), "--weights", str(trained.run), "NGPUS=0"]
        return main([*fixed, *map(str, arguments), "--out", str(tmp_path / "out")])

    return run


def indices(path: Path) -> np.ndarray:
    """As the numbers stand in the file, grey or palette."""
    with Image.open(path) as image:
        assert image.mode in ("L", "P")
        return np.array(image)


def errors_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("settings", [["ensemble=v3"], ["ensemble=v0", "eval_scales=0.75,1.5", "eval_flip=1"]])
def test_labels_are_those_of_an_evaluation(
    trained: TrainedRun, demo_data: Path, predict, tmp_path: Path, settings: list[str]
) -> None:
    places = [f"OUTPUT_PATH={trained.run}", f"dataset_path={demo_data}"]
    assert main(["eval", str(trained.experiment), *places, "NGPUS=0", *settings]) == 0
    assert predict(*settings, demo_data / "val/image") == 0
    expected = {path.name: path.read_bytes() for path in (trained.run / "results").iterdir()}
    assert len(expected) == 8 and len({len(content) for content in expected.values()}) > 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/index").iterdir()} == expected


def test_scores_and_labels_are_computed_in_full_fp32(trained: TrainedRun, demo_data: Path, predict) -> None:
    """On a GPU, PyTorch would round convolutions to TF32."""
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        assert predict(next((demo_data / "val/image").iterdir())) == 0
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        places = [f"OUTPUT_PATH={trained.run}", f"dataset_path={demo_data}"]
        assert main(["eval", str(trained.experiment), *places, "NGPUS=0", "ensemble=v0"]) == 0
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_everything_that_can_be_written_fits_together(
    trained: TrainedRun, demo_data: Path, predict, tmp_path: Path
) -> None:
    image = next((demo_data / "val/image").iterdir())
    assert predict(image, "--probabilities", "--disagreement", "eval_flip=1") == 0
    out, name = tmp_path / "out", image.stem
    written = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert written == ["color", "disagreement", "index", "overlay", "probability"]
    label, picture = indices(out / f"index/{name}.png"), cv2.imread(str(image))
    assert np.array_equal(indices(out / f"color/{name}.png"), label)
    palette = np.array(read_experiment(trained.experiment, {"dataset_path": str(demo_data)}).dataset.palette)
    assert np.array_equal(cv2.imread(str(out / f"color/{name}.png"))[..., ::-1], palette[label])
    drawn = overlay(picture[..., ::-1].copy(), label, list(map(tuple, palette.tolist())))
    assert np.array_equal(cv2.imread(str(out / f"overlay/{name}.png"))[..., ::-1], drawn)

    with np.load(out / f"probability/{name}.npz") as file:
        probability, classes = file["probability"].astype(np.float32), file["classes"]
    assert probability.shape == (21, *label.shape) and classes[0] == "background" and len(classes) == 21
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=5e-3)
    of_label = np.take_along_axis(probability, label[None].astype(int), axis=0)[0]
    assert (of_label >= probability.max(axis=0) - 1e-3).all()

    each = []
    for code in ("v0", "v0_2", "v1", "v1_2"):
        assert predict(image, "--ensemble", code, "eval_flip=1") == 0
        each.append(indices(out / f"index/{name}.png"))
    expected = np.apply_along_axis(lambda values: len(set(values)), 0, np.stack(each))
    assert np.array_equal(indices(out / f"disagreement/{name}.png"), expected)
    assert len(np.unique(expected)) > 1
    shown = cv2.imread(str(out / f"disagreement/{name}.png"))[..., ::-1]
    assert np.array_equal(shown, np.array(DISAGREEMENT)[expected])


def test_probabilities_do_not_depend_on_how_often_a_pixel_is_seen(
    predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks that look at single pixels, and an image wide enough for windows that overlap."""
    weights = [torch.randn(21, 3, 1, 1), torch.randn(21, 3, 1, 1)]
    networks = {f"teacher_{number + 1}": partial(conv2d, weight=weight) for number, weight in enumerate(weights)}
    monkeypatch.setattr(predictor, "evaluation_networks", lambda *_: networks)
    picture = noise(40, 90)
    write(tmp_path / "wide.png", picture)
    assert predict(tmp_path / "wide.png", "--probabilities", "eval_flip=1") == 0
    pixels = (torch.tensor(picture[..., ::-1].copy()) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    logits = conv2d(pixels.permute(2, 0, 1)[None], (weights[0] + weights[1]) / 2)
    with np.load(tmp_path / "out/probability/wide.npz") as file:
        np.testing.assert_allclose(file["probability"], logits.softmax(dim=1)[0].numpy(), atol=1e-3)


def test_lines_part_the_classes_of_an_overlay() -> None:
    label = np.array([[0, 0, 1], [0, 0, 1]], dtype=np.uint8)
    drawn = overlay(np.full((2, 3, 3), 100, dtype=np.uint8), label, [(0, 0, 0), (200, 0, 50)])
    assert drawn[0].tolist() == [[50, 50, 50], [255, 255, 255], [150, 50, 75]]


def test_different_classes_are_counted() -> None:
    labels = torch.tensor([[3, 1, 7, 0], [3, 2, 8, 0], [3, 1, 9, 200], [3, 2, 6, 0]], dtype=torch.uint8)
    assert count_different(labels[:, None]).tolist() == [[1, 2, 4, 2]]


def test_folders_keep_their_structure_and_files_their_names(predict, photos: Path, tmp_path: Path) -> None:
    assert predict(photos, "NGPUS=0") == 0
    assert files_below(tmp_path / "out/index") == ["a.png", "sub/b.png", "sub/deep er/c.png"]
    assert files_below(tmp_path / "out/overlay") == files_below(tmp_path / "out/color")
    for name in ("a.png", "sub/deep er/c.png"):
        assert indices(tmp_path / "out/index" / name).shape == cv2.imread(str(photos / name)).shape[:2]


def test_patterns_keep_what_is_below_their_fixed_part(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(*texts: str) -> list[str]:
        return [source.name.as_posix() for source in find_sources(texts)[0]]

    assert names(f"{photos}/**/*.png") == ["a", "sub/deep er/c"]
    assert names(f"{photos}/s*/**") == ["sub/b", "sub/deep er/c"]
    assert names(str(photos / "sub/b.jpg"), f"{photos}/a*") == ["b", "a"]
    monkeypatch.chdir(photos)
    assert names("sub/*.jpg", "./sub/b.jpg", "sub") == ["b", "deep er/c"]
    assert names("../my photos/sub/deep*/*") == ["deep er/c"]
    (photos / "[1]").mkdir()
    shutil.copy(photos / "a.png", photos / "[1]")
    monkeypatch.chdir(photos / "[1]")
    assert names("*.png") == ["a"] and names(str(photos / "[1]")) == ["a"]


def test_no_prediction_takes_anothers_place(photos: Path, tmp_path: Path) -> None:
    write(photos / "a.jpg", noise(9, 9))
    assert [source.name.name for source in find_sources([str(photos)])[0]][:2] == ["a.jpg", "a.png"]
    other = tmp_path / "other/a.png"
    write(other, noise(9, 9))
    with pytest.raises(
        InputError, match=r"two predictions of one name: .*my photos/a\.png and .*other/a\.png"
    ) as error:
        find_sources([str(photos), str(other)])
    assert "\n" not in str(error.value)
    write(photos / "a.jpg.png", noise(9, 9))
    with pytest.raises(InputError, match="two predictions of one name"):
        find_sources([str(photos)])


def test_predictions_are_not_predicted_again(predict, photos: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert predict(photos, tmp_path) == 0  # the second holds the first, and `out`
        assert files_below(tmp_path / "out/index") == ["a.png", "sub/b.png", "sub/deep er/c.png"]


def test_bad_images_are_said_and_the_others_go_on(
    predict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = (photos / "sub/b.jpg").read_bytes()
    (photos / "sub/bad.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").write_bytes(b"")
    assert predict(photos) == 2
    assert files_below(tmp_path / "out/index") == ["a.png", "sub/b.png", "sub/deep er/c.png"]
    errors = errors_in(capsys.readouterr().err)
    assert len(errors) == 3 and errors[-1].startswith("error: 2 of 5 could not be labelled")
    assert str(photos / "empty.png") in errors[0] and str(photos / "sub/bad.jpg") in errors[1]


def test_an_image_too_large_for_the_memory_is_left_out(
    predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scores = SlidingWindow.scores

    def limited(self: SlidingWindow, image: torch.Tensor) -> dict[str, torch.Tensor]:
        if image.shape[0] == 35:
            torch.empty(2**60)
        return scores(self, image)

    monkeypatch.setattr(SlidingWindow, "scores", limited)
    assert predict(photos) == 2
    assert files_below(tmp_path / "out/index") == ["a.png", "sub/deep er/c.png"]
    assert re.search(r"error: image too large: sub/b: no memory left on cpu for 35 x 49 pix", capsys.readouterr().err)


def test_an_image_that_would_not_fit_is_left_out_before_it_is_decoded(
    predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    decoded, read_image = [], inputs.read_image
    monkeypatch.setattr(inputs, "read_image", lambda path: decoded.append(path.name) or read_image(path))
    monkeypatch.setattr(inputs, "LARGE", 60 * 60)
    monkeypatch.setattr(memory, "free", lambda *_: room.LIBRARIES + 3e7)  # where an image of 600 x 700 takes 82 MB
    write(photos / "huge.png", noise(600, 700))
    write(photos / "large.png", noise(100, 110))
    assert predict(photos) == 2
    assert files_below(tmp_path / "out/index") == ["a.png", "large.png", "sub/b.png", "sub/deep er/c.png"]
    assert sorted(decoded) == ["a.png", "b.jpg", "c.png", "large.png"]
    errors = errors_in(capsys.readouterr().err)
    assert len(errors) == 2 and re.fullmatch(
        r"error: image too large: .*/huge\.png: 600 x 700 pixels \(height x width\) needs about \d+ MB of memory "
        r"on cpu, 97 MB are free; cut it up, .*",
        errors[0],
    )


def test_one_name_that_cannot_be_written_ends_nothing(
    predict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A name as long as names may be is written; one that grows by its ending, or meets a folder, is said."""
    longest, named_twice = "l" * 251, "t" * 250
    for name in (f"{longest}.png", f"{named_twice}.png", f"{named_twice}.jpg"):
        write(tmp_path / f"short{name[-4:]}", noise(9, 9))  # OpenCV cannot write the name
        shutil.move(tmp_path / f"short{name[-4:]}", photos / name)
    (tmp_path / "out/index/a.png").mkdir(parents=True)
    (tmp_path / "out/.predictions").touch()
    assert predict(photos) == 2
    assert files_below(tmp_path / "out/index") == [f"{longest}.png", "sub/b.png", "sub/deep er/c.png"]
    errors = errors_in(capsys.readouterr().err)
    assert len(errors) == 4 and errors[-1].startswith("error: 3 of 6 could not be labelled")
    assert "index/a.png: Is a directory; " in errors[0]
    assert all("File name too long; shorten the name" in error for error in errors[1:3])


def test_a_full_disk_ends_the_command_at_once(
    predict, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(path: Path, _: object) -> None:
        with files.writing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs, "write_png", full)
    assert predict(photos) == 2
    errors = errors_in(capsys.readouterr().err)
    assert len(errors) == 1 and "No space left on device; free space" in errors[0]


def test_a_folder_that_is_named_as_a_prediction_parts_from_it(predict, photos: Path, tmp_path: Path) -> None:
    write(photos / "x.jpg", noise(9, 9))
    write(photos / "x.png/y.jpg", noise(9, 9))
    write(photos / "z.jpg", noise(9, 9))
    write(photos / "z.npz/y.jpg", noise(9, 9))
    assert predict(photos / "x.jpg", photos) == 0
    found = files_below(tmp_path / "out/index")
    assert {"x.png", "x.png/y.png"} & set(found) == {"x.png/y.png"} and {"x.jpg.png", "z.jpg.png"} < set(found)
    write(photos / "x.jpg.png/y.jpg", noise(9, 9))
    with pytest.raises(InputError, match=r"two predictions of one name: a folder of others and .*/x\.jpg would both"):
        find_sources([str(photos)])


def test_earlier_predictions_below_a_folder_are_no_images(
    predict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(photos / "index/own.png", noise(9, 9))
    write(photos / "old/index/a.png", noise(9, 9))
    (photos / "old/.predictions").touch()
    assert predict(photos) == 0
    found = files_below(tmp_path / "out/index")
    assert "index/own.png" in found and not [name for name in found if name.startswith("old/")]
    assert "1 earlier predictions" in capsys.readouterr().err
    found, _ = find_sources([str(photos / "**/*.png")])
    assert "index/own.png" in [str(one.below) for one in found] and len(found) == len({one.path for one in found})
    assert not [one for one in found if "old" in one.path.parts]
    assert [one.path.name for one in find_sources([str(photos / "old/index")])[0]] == ["a.png"]  # when asked for


def test_an_output_called_like_an_image_is_refused(
    trained: TrainedRun, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "mask.png"
    words = [trained.experiment, "--weights", trained.run, "NGPUS=0", photos, "--out", out]
    assert main(["predict", *map(str, words)]) == 2
    assert "--out: expected a folder" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("below", ["snapshot", "snapshot/model_epoch3.pth"])
def test_a_part_of_a_run_names_the_run(trained: TrainedRun, photos: Path, capsys, below: str) -> None:
    words = [trained.experiment, "--weights", trained.run / below, photos, "--out", photos]
    assert main(["predict", *map(str, words)]) == 2
    assert f"check --weights: {trained.run} is one" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["net.onx", "net.tflite", "net.ts", "net.PTH"])
def test_other_formats_are_no_folders(trained: TrainedRun, tmp_path: Path, capsys, name: str) -> None:
    words = [trained.experiment, "--weights", trained.run, "--out", tmp_path / name]
    assert main(["export", *map(str, words)]) == 2
    assert "--out: expected a folder, or a file that ends in" in capsys.readouterr().err


def test_what_is_left_out_is_counted_by_its_ending(
    predict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a.HEIC", "sub/b.HEIC", "clip.mp4", "none"):
        (photos / name).touch()
    shutil.copy(photos / "a.png", photos / "b.jfif")
    (photos / "linked").symlink_to(tmp_path)
    (photos / "loop.png").symlink_to("loop.png")
    assert predict(photos) == 2
    said = capsys.readouterr()
    assert files_below(tmp_path / "out/index") == ["a.png", "b.png", "sub/b.png", "sub/deep er/c.png"]
    left_out = "left out: 2 .HEIC, 1 hidden, 1 linked folders, 1 .mp4, 1 without an ending, 1 .txt"
    assert sorted(said.err.splitlines()[0].partition(";")[0][6:].removeprefix("left out: ").split(", ")) == sorted(
        left_out.removeprefix("left out: ").split(", ")
    )
    assert "4 images labelled" in said.out and "(left out: 2 .HEIC, " in said.out
    assert "image not readable: " in errors_in(said.err)[0]  # the link that leads to itself

    shutil.copy(photos / "a.png", photos / "odd.xyz")
    assert predict(photos / "odd.xyz", photos / "a.HEIC") == 2  # both are tried
    said = capsys.readouterr().err
    assert (tmp_path / "out/index/odd.png").is_file() and "left out" not in said
    assert "1 of 2 could not be labelled" in said
    assert predict(f"{photos}/*.HEIC") == 2
    assert "or a video (folders of predictions are left out), found 1 .HEIC; check" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_said_and_the_others_go_on(
    predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scandir = os.scandir

    def closed(path: str):
        if str(path).endswith("deep er"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert predict(photos) == 2
    assert files_below(tmp_path / "out/index") == ["a.png", "sub/b.png"]
    errors = errors_in(capsys.readouterr().err)
    assert "folder not readable: " in errors[0] and "deep er: Permission denied" in errors[0]
    assert errors[1].startswith("error: 1 of 3 could not be labelled")


def test_images_of_every_kind(predict, tmp_path: Path) -> None:
    folder, picture = tmp_path / "kinds", noise(40, 30)
    for name, kind in {
        "point.png": picture[:1, :1],
        "line.png": np.repeat(picture[:1], 8, axis=1),
        "grey.png": picture[..., 0],
        "alpha.png": np.dstack([picture, picture[..., 0]]),
        "deep.png": picture.astype(np.uint16) * 257,
        "plain.png": picture,
    }.items():
        write(folder / name, kind)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.fromarray(picture).save(folder / "turned.jpg", exif=exif)
    assert predict(folder) == 0
    labels = {path.stem: indices(path) for path in (tmp_path / "out/index").iterdir()}
    assert labels["point"].shape == (1, 1) and labels["line"].shape == (1, 240)
    assert labels["turned"].shape == (30, 40) and labels["grey"].shape == (40, 30)
    assert np.array_equal(labels["alpha"], labels["plain"]) and np.array_equal(labels["deep"], labels["plain"])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.avi")


def test_a_video_gives_a_map_for_every_frame(predict, clip: Path, tmp_path: Path) -> None:
    assert predict(clip) == 0
    names = files_below(tmp_path / "out/overlay")
    assert names == [f"clip/frame_{number:06d}.png" for number in range(1, 13)]
    frames = cv2.VideoCapture(str(clip))
    for name in names[:2]:
        write(tmp_path / "same.png", frames.read()[1])
        assert predict(tmp_path / "same.png") == 0
        expected = indices(tmp_path / "out/index/same.png")
        assert np.array_equal(indices(tmp_path / "out/index" / name), expected)


def test_a_video_that_breaks_off_is_said(predict, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    (tmp_path / "none.mp4").write_bytes(b"no video")
    assert predict(clip, tmp_path / "none.mp4") == 2
    assert 0 < len(files_below(tmp_path / "out/index")) < 12
    said = capfd.readouterr().err
    errors = errors_in(said)
    assert f"{clip}: expected 12 frames, found" in errors[0]
    assert f"{tmp_path / 'none.mp4'}: expected some frames, found 0" in errors[1]
    assert len(errors) == 3 and "mov,mp4" not in said  # FFmpeg itself is quiet


def test_frames_and_images_of_one_folder_stay_apart(clip: Path, tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "clip/frame_000001.png", noise(8, 8))
    monkeypatch.chdir(tmp_path)
    assert [source.name.as_posix() for source in find_sources(["*", "**/*.png"])[0]] == [
        "clip.avi",
        "clip/frame_000001",
    ]


def test_a_stop_leaves_whole_files_alone(
    predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, seen = SlidingWindow.scores, []

    def interrupted(self: SlidingWindow, image: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(image)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return scores(self, image)

    monkeypatch.setattr(SlidingWindow, "scores", interrupted)
    assert predict(photos) == 130
    end = time.monotonic() + 60  # what is being written at the stop is finished in its thread
    while any(name.endswith(".tmp") for name in files_below(tmp_path / "out")):
        assert time.monotonic() < end
        time.sleep(0.05)
    for name in files_below(tmp_path / "out/index"):
        indices(tmp_path / "out/index" / name)


def test_nothing_but_predictions_is_written_over(
    demo_data: Path, predict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A data set of its own may have folders of these names."""
    photograph = next((demo_data / "val/image").iterdir())
    own = tmp_path / "out/color" / photograph.name
    own.parent.mkdir(parents=True)
    shutil.copy(photograph, own)
    before = own.read_bytes()
    for image in (own, photograph):
        assert predict(image) == 2
        assert f"error: --out: {own.parent} holds files that are no predictions" in capsys.readouterr().err
    assert own.read_bytes() == before and not (tmp_path / "out/index").exists()
    own.unlink()
    assert predict(photograph) == 0
    assert predict(photograph) == 0  # predictions may be
    assert predict(tmp_path / f"out/overlay/{photograph.stem}.png") == 2
    assert "lies where predictions go" in capsys.readouterr().err


def test_pipes_in_a_folder_are_left_out(demo_data: Path, predict, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(next((demo_data / "val/image").iterdir()), folder)
    os.mkfifo(folder / "pipe.png")
    assert predict(folder) == 0
    assert len(list((tmp_path / "out/index").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["nowhere"], "no image: nowhere: expected a file, a folder"),
        (["imge_size=64"], "unknown setting 'imge_size'"),
        (["*.nothing"], "no image: *.nothing"),
        (["seed=1"], "no image named"),
        (["val", "ensemble=v2,v3"], "ensemble: expected one predictor, found v2, v3"),
        (["val", "--ensemble", "v5"], "--ensemble: expected one of"),
        (["val", "--epoch", "9"], "no snapshot of epoch 9"),
        (["val", "--epoch", "all"], "epoch: expected one, found 3"),
        (["val", "eval_epochs=none"], "epoch: expected one, found 0"),
        (["val", "--weights", "nowhere"], "no run: "),
        (["val", "--weights", "val", "dataset_path=."], "no run: "),
        (["val", "backbone=resnet34_v1c"], "weights do not fit"),
    ],
)
def test_bad_requests_are_one_line(
    predict, demo_data: Path, monkeypatch, capsys: pytest.CaptureFixture, arguments: list[str], fragment: str
) -> None:
    monkeypatch.chdir(demo_data)
    assert predict(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and fragment in lines[0]


def test_a_run_without_teachers_is_labelled_by_its_students(
    demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "cps").mkdir()
    experiment, run = train(tmp_path / "cps", demo_data, "method=org", "nepochs=1")
    image = str(next((demo_data / "val/image").iterdir()))
    assert main(["predict", str(experiment), "--weights", str(run), "NGPUS=0", image, "--disagreement"]) == 0
    assert "1 images labelled by v2 of epoch 1" in capsys.readouterr().out
    assert indices(run / f"predictions/disagreement/{Path(image).stem}.png").max() <= 2
    assert main(["predict", str(experiment), "--weights", str(run), image, "--ensemble", "v3"]) == 2
    assert "needs teachers" in capsys.readouterr().err
