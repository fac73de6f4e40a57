"""Settings are read from text, config.py and the environment, and refused when they make no sense."""

import re
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.config.checks import without_effect
from furnace.config.experiment import for_evaluation, read_experiment
from furnace.config.settings import FIELDS, Settings, help_table, read_settings
from furnace.errors import InputError

VOC = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
EXPERIMENTS = [path.parent.relative_to(REPOSITORY).as_posix() for path in sorted(REPOSITORY.glob("exp.*/*/config.py"))]


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
        ("eval_epochs", "30,28-30", (30, 28, 29)),
        ("eval_epochs", "last", "last"),
        ("eval_epochs", "3-3", (3,)),
        ("ohem_threshold", "none", None),
        ("ohem_threshold", "0.7", 0.7),
        ("width", "0.25", 0.25),
        ("learning_rate", "1e-2", 0.01),
        ("labeled_ratio", "1/8", 8),
        ("eval_flip", "True", True),
        ("NGPUS", "ALL", "all"),
        ("pretrained_model", "None", "none"),
        ("ohem_threshold", "None", None),
        ("pretrained_model", "$WEIGHTS/a.pth", "/some where/a.pth"),
        ("dataset_path", "${WEIGHTS}/x", Path("/some where/x")),
        ("dataset_path", "~/x", Path.home() / "x"),
    ],
)
@pytest.mark.usefixtures("weights_variable")
def test_reads(name: str, text: str, value: object) -> None:
    assert getattr(read_settings({}, {name: text}), name) == value


@pytest.fixture
def weights_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", "/some where")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("NGPUS", "0,1", "how many (CUDA_VISIBLE_DEVICES=0,1 says which)"),
        ("learning_rate", "0,01", "a number of at least 0 (with a point, not a comma)"),
        ("atrous_rates", "2,4", "3 values with commas between them"),
        ("label_temperature", "1e-40", "0, or a number of at least 0.01"),  # logits / 1e-40 are infinite in fp32
        ("label_temperature", "inf", "0, or a finite number of at least 0.01"),
        ("cps_weight", "1e400", "a finite number of at least 0"),
        ("train_scales", "1,,2", "at most 16, several with commas between them"),
        ("labeled_ratio", "0.125", "N or 1/N, a whole number of at least 1"),
        ("method", "EMA", "one of supervised, org, ema (perhaps ema)"),
        ("ensemble", "V3", "(perhaps v3)"),
        ("ensemble", "v0 v3", "several with commas between them"),
        ("eval_epochs", "lst", "last, all, none (perhaps last), a range 20-34 or a list 30,34"),
        ("backbone", "resnet50 v1c", "one name of letters, digits, points and dashes"),
        ("eval_epochs", "1-99999999999", "epochs up to 1000000"),  # such a list would fill the memory
        ("nepochs", "1" + 20 * "0", "at most 1000000"),
        ("num_workers", "100000", "at most 1000"),
        ("timeout_minutes", "1e300", "at most 1e+06"),
        ("OUTPUT_PATH", "$NO_SUCH_VARIABLE/x", "a folder ($NO_SUCH_VARIABLE is no variable of the environment)"),
        ("OUTPUT_PATH", "a\nb", "a folder's name on one line"),
        (
            "pretrained_model",
            "https://host/a.pth",
            "a file, torchvision://resnet50, hub or none (download it yourself)",
        ),
    ],
)
def test_what_is_nearly_right_gets_a_hint(name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: expected ") as caught:
        read_settings({}, {name: text})
    assert f"{said}, found {text!r}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_home_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # without HOME, and without an entry for the user
    with pytest.raises(
        InputError, match=r"dataset_path: expected a folder, ~ only .* or where HOME is set, found '~/x'"
    ):
        read_settings({}, {"dataset_path": "~/x"})


def test_none_in_a_configuration_is_not_set() -> None:
    assert read_settings({"batch_size": None, "pretrained_model": None, "nepochs": None}, {}) == Settings()


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        ({}, []),
        ({"method": "supervised", "cps_ramp": "0.1,0.2"}, ["cps_ramp has no effect without a cross term"]),
        ({"method": "org", "ema_decay": "0.9", "ohem_min_kept": "9"},
         ["ema_decay has no effect without teachers", "ohem_min_kept has no effect without ohem_threshold"]),
        ({"method": "supervised", "confidence": "0.9"}, ["confidence has no effect without a cross term"]),
        ({"cps_weight": "0", "confidence": "0.9"}, ["confidence has no effect without a cross term"]),
        ({"cps_ramp": "1,1", "confidence": "0.9"}, ["confidence has no effect without a cross term"]),
        ({"method": "supervised", "label_temperature": "1"}, ["label_temperature has no effect without a cross term"]),
        (
            {"cps_weight": "0", "distribution_alignment": "1"},
            ["distribution_alignment has no effect without a cross term"],
        ),
        ({"validate_epochs": "0", "validate_images": "9"}, ["validate_images has no effect without validations"]),
        ({"OUTPUT_PATH": "/tmp/{method}_{seed}"},
         ["{seed} in OUTPUT_PATH stands for nothing, as {labeled_ratio}, {batch_size}, {backbone}, {method} would"]),
    ],
)  # fmt: skip
def test_settings_without_an_effect_are_named(demo_data: Path, texts: dict, lines: list[str]) -> None:
    plain = {"dataset_path": str(demo_data), "pretrained_model": "none"}
    assert without_effect(read_experiment(VOC, {**plain, **texts})) == lines


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
        ("eval_epochs", "7,5-2"),
        ("eval_epochs", "x"),
        ("eval_flip", "maybe"),
        ("method", "EMA"),
        ("eval_scales", "0"),
        ("train_scales", "0.001"),
        ("precision", "fp8"),
        ("decoder", "U-Net and more"),
        ("backbone_2", "a/b"),
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


@pytest.mark.parametrize(("trained", "rates"), [("[2, 4, 6]", (2, 4, 6)), ("null", None)])
def test_evaluation_takes_the_rates_of_the_run(
    demo_data: Path, tmp_path: Path, trained: str, rates: tuple | None
) -> None:
    """Other rates than the run's would fit its weights as well, and give other scores."""
    output, folder = tmp_path / "run", tmp_path / "experiment"
    output.mkdir()
    folder.mkdir()
    (output / "config.json").write_text(f'{{"settings": {{"atrous_rates": {trained}}}}}')
    (folder / "config.py").write_text(
        f"config = dict(base={str(VOC)!r}, pretrained_model='none', atrous_rates=(1, 2, 3))"
    )
    texts = {"dataset_path": str(demo_data), "OUTPUT_PATH": str(output)}
    assert for_evaluation(read_experiment(folder, texts)).settings.atrous_rates == rates
    assert for_evaluation(read_experiment(folder, {**texts, "atrous_rates": "3,4,5"})).settings.atrous_rates == (
        3,
        4,
        5,
    )


def test_an_old_run_had_one_network_for_both_students(demo_data: Path, tmp_path: Path) -> None:
    """Its config.json names no decoder and no second backbone."""
    (tmp_path / "config.json").write_text('{"settings": {"backbone": "resnet18", "width": 0.25, "image_size": 64}}')
    texts = {"dataset_path": str(demo_data), "OUTPUT_PATH": str(tmp_path)}
    settings = for_evaluation(read_experiment(VOC, texts)).settings
    assert len(settings.students) == 1 and settings.student(2).name == "resnet18"


def test_experiment_files_stay_small() -> None:
    for folder in REPOSITORY.glob("exp.*/*"):
        assert len((folder / "config.py").read_text().splitlines()) <= 60
        for network in folder.glob("network.py"):  # where there is none, it is the base's
            assert len(network.read_text().splitlines()) <= 20


SOURCED = re.compile(r'^source "\$\(dirname "\$\{BASH_SOURCE\[0\]\}"\)/(.*)"$', re.MULTILINE)
SHOWN = re.compile(r'^: "\$\{(\w+):=([^}$]*)\}"', re.MULTILINE)


def defaults_shown(script: Path) -> dict[str, str]:
    """The settings that a script shows with its defaults, and then those of the scripts that it sources."""
    text = script.read_text()
    found = dict(SHOWN.findall(text))
    for other in SOURCED.findall(text):
        found = defaults_shown(script.parent / other) | found
    return found


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("script", ["train_org.sh", "train_ema.sh", "eval.sh", "predict.sh"])
def test_scripts_repeat_the_defaults_of_their_configuration(tmp_path: Path, experiment: str, script: str) -> None:
    """Else a script would train, or look for, another run than `python -m furnace` does."""
    found = defaults_shown(REPOSITORY / experiment / script)
    assert set(found) <= set(FIELDS) and len(found) > 8
    plain = {"dataset_path": str(tmp_path), "pretrained_model": "none", "method": found.pop("method")}
    by_configuration = read_experiment(REPOSITORY / experiment, plain).settings
    by_script = read_experiment(REPOSITORY / experiment, {**found, **plain}).settings
    assert by_script == by_configuration
    assert plain["method"] == ("org" if script == "train_org.sh" else "ema")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_scripts_show_where_a_run_is_written_to(tmp_path: Path, experiment: str) -> None:
    folder = REPOSITORY / experiment
    for script in folder.glob("*.sh"):
        for shown in re.findall(r"# empty: (\.\./\.\./output_[^\s,]*)", script.read_text()):
            method = "org" if shown.endswith("_CPS") else "ema"
            texts = {"dataset_path": str(tmp_path), "pretrained_model": "none", "method": method}
            assert (folder / shown).resolve() == read_experiment(folder, texts).settings.OUTPUT_PATH, script


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_predict_repeats_the_defaults_of_eval(experiment: str) -> None:
    predict, beside = (REPOSITORY / experiment / name for name in ("predict.sh", "eval.sh"))
    assert list(defaults_shown(predict)) == list(defaults_shown(beside))
    assert predict.stat().st_mode == beside.stat().st_mode
