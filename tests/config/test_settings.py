"""Settings are read from text, config.py and the environment, and refused when they make no sense."""

import re
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.config.experiment import for_evaluation, read_experiment
from furnace.config.settings import FIELDS, Settings, help_table, read_settings
from furnace.errors import InputError

VOC = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "16", 16),
        ("learning_rate", "1e-3", 0.001),
        ("eval_flip", "1", True),
        ("eval_flip", "false", False),
        ("NGPUS", "all", "all"),
        ("NGPUS", "0", 0),
        ("num_workers", "auto", "auto"),
        ("keep_snapshots", "all", "all"),
        ("eval_scales", "0.75,1,1.25", (0.75, 1.0, 1.25)),
        ("cps_ramp", "0.3,0.6", (0.3, 0.6)),
        ("ensemble", "v0, v3", ("v0", "v3")),
        ("eval_epochs", "20-22,30", (20, 21, 22, 30)),
        ("eval_epochs", "last", "last"),
        ("eval_epochs", "3-3", (3,)),
        ("ohem_threshold", "none", None),
        ("ohem_threshold", "0.7", 0.7),
        ("width", "0.25", 0.25),
    ],
)
def test_reads(name: str, text: str, value: object) -> None:
    assert getattr(read_settings({}, {name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("batch_size", "eight"),
        ("batch_size", "0"),
        ("batch_size", "1"),
        ("learning_rate", "nan"),
        ("learning_rate", "-1"),
        ("width", "0"),
        ("cps_ramp", "0.6,0.3"),
        ("cps_ramp", "0.5"),
        ("ensemble", "v9"),
        ("ensemble", "v0,,v1"),
        ("eval_epochs", "5-2"),
        ("eval_epochs", "x"),
        ("eval_flip", "maybe"),
        ("method", "EMA"),
        ("eval_scales", "0"),
        ("train_scales", "0.001"),
        ("precision", "fp8"),
        ("backbone", "resnet152"),
        ("NGPUS", "-1"),
        ("seed", "1.5"),
        ("ema_decay", "1.5"),
    ],
)
def test_refuses(name: str, text: str) -> None:
    with pytest.raises(InputError, match=f"{name}: expected .*, found '{text}'"):
        read_settings({}, {name: text})


def test_the_environment_wins_and_empty_is_not_set() -> None:
    settings = read_settings({"batch_size": 4, "seed": 3}, {"batch_size": "6", "seed": ""})
    assert (settings.batch_size, settings.seed) == (6, 3)


def test_unknown_default_is_refused() -> None:
    with pytest.raises(InputError, match="unknown setting batchsize"):
        read_settings({"batchsize": 4}, {})


def test_every_setting_reads_its_own_default() -> None:
    for name, entry in FIELDS.items():
        if entry.default is not None:
            text = ",".join(map(str, entry.default)) if isinstance(entry.default, tuple) else str(entry.default)
            assert getattr(read_settings({}, {name: text}), name) == getattr(Settings(), name), name
        assert name in help_table()


@pytest.mark.parametrize(
    ("texts", "epochs", "backbone", "output"),
    [
        ({}, 34, "resnet50_v1c", "output_voc/voc8_res50_cutmix_B8_EMA"),
        ({"labeled_ratio": "16", "method": "org"}, 32, "resnet50_v1c", "output_voc/voc16_res50_cutmix_B8_CPS"),
        ({"labeled_ratio": "4", "batch_size": "16"}, 40, "resnet50_v1c", "output_voc/voc4_res50_cutmix_B16_EMA"),
        ({"labeled_ratio": "2", "nepochs": "7"}, 7, "resnet50_v1c", "output_voc/voc2_res50_cutmix_B8_EMA"),
        (
            {"pretrained_model": "weights/resnet101_v1c.pth"},
            34,
            "resnet101_v1c",
            "output_voc/voc8_res101_cutmix_B8_EMA",
        ),
        ({"pretrained_model": "torchvision://resnet34"}, 34, "resnet34", "output_voc/voc8_res34_7x7_cutmix_B8_EMA"),
        (
            {"pretrained_model": "none", "backbone": "resnet18_v1c"},
            34,
            "resnet18_v1c",
            "output_voc/voc8_res18_cutmix_B8_EMA",
        ),
        (
            {"pretrained_model": "none", "backbone": "resnet50_v1c_stem32"},
            34,
            "resnet50_v1c_stem32",
            "output_voc/voc8_res50_stem32_cutmix_B8_EMA",
        ),
    ],
)
def test_voc_defaults(demo_data: Path, texts: dict, epochs: int, backbone: str, output: str) -> None:
    """The contract of the scripts: what follows from what."""
    experiment = read_experiment(VOC, {"dataset_path": str(demo_data), **texts})
    settings = experiment.settings
    assert (settings.nepochs, settings.backbone) == (epochs, backbone)
    assert settings.OUTPUT_PATH == settings.snapshot_dir == REPOSITORY / output
    assert (settings.learning_rate, settings.weight_decay, settings.cps_weight, settings.image_size) == (
        0.0025,
        2e-4,
        1,
        512,
    )
    assert (settings.keep_snapshots, settings.snapshot_iter, settings.ensemble, settings.precision) == (
        3,
        1,
        ("all",),
        "auto",
    )


def test_switches_override_the_method(demo_data: Path) -> None:
    experiment = read_experiment(VOC, {"dataset_path": str(demo_data), "labellers": "teachers", "method": "org"})
    assert (experiment.method.labellers, experiment.method.view) == ("teachers", "weak")


def test_paths_with_braces_stay_as_they_are(demo_data: Path) -> None:
    experiment = read_experiment(VOC, {"dataset_path": str(demo_data), "OUTPUT_PATH": "/tmp/{x}"})
    assert experiment.settings.OUTPUT_PATH == Path("/tmp/{x}")


def test_evaluation_takes_the_network_of_the_run(demo_data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"settings": {"backbone": "resnet18_v1c", "width": 0.25}}')
    texts = {"dataset_path": str(demo_data), "OUTPUT_PATH": str(tmp_path)}
    settings = for_evaluation(read_experiment(VOC, texts)).settings
    assert (settings.backbone, settings.width) == ("resnet18_v1c", 0.25)
    settings = for_evaluation(read_experiment(VOC, {**texts, "backbone": "resnet34_v1c"})).settings
    assert (settings.backbone, settings.width) == ("resnet34_v1c", 0.25)


def test_experiment_files_stay_small() -> None:
    for folder in REPOSITORY.glob("exp.*/*"):
        assert len((folder / "config.py").read_text().splitlines()) <= 60
        assert len((folder / "network.py").read_text().splitlines()) <= 20


@pytest.mark.parametrize("experiment", ["exp.voc", "exp.city", "exp.camvid"])
@pytest.mark.parametrize("script", ["train_org.sh", "train_ema.sh", "eval.sh"])
def test_scripts_repeat_the_defaults_of_their_configuration(tmp_path: Path, experiment: str, script: str) -> None:
    """Else a script would train, or look for, another run than `python -m furnace` does."""
    folder = REPOSITORY / experiment / "ensemble_teacher+cutmix"
    found = dict(re.findall(r'^: "\$\{(\w+):=([^}$]*)\}"', (folder / script).read_text(), re.MULTILINE))
    assert set(found) <= set(FIELDS) and len(found) > 8
    plain = {"dataset_path": str(tmp_path), "pretrained_model": "none", "method": found.pop("method")}
    by_configuration = read_experiment(folder, plain).settings
    by_script = read_experiment(folder, {**found, **plain}).settings
    assert by_script == by_configuration
    assert plain["method"] == ("org" if script == "train_org.sh" else "ema")


@pytest.mark.parametrize("experiment", ["exp.voc", "exp.city", "exp.camvid"])
def test_predict_repeats_the_defaults_of_eval(tmp_path: Path, experiment: str) -> None:
    folder = REPOSITORY / experiment / "ensemble_teacher+cutmix"
    text = (folder / "predict.sh").read_text()
    found = dict(re.findall(r'^: "\$\{(\w+):=([^}$]*)\}"', text, re.MULTILINE))
    assert set(found) <= set(FIELDS) and len(found) > 8
    plain = {"dataset_path": str(tmp_path), "pretrained_model": "none"}
    assert read_experiment(folder, found | plain).settings == read_experiment(folder, plain).settings
    beside = (folder / "eval.sh").read_text()
    assert re.findall(r"^: .*?:=", text, re.MULTILINE) == re.findall(r"^: .*?:=", beside, re.MULTILINE)
    assert (folder / "predict.sh").stat().st_mode == (folder / "eval.sh").stat().st_mode
