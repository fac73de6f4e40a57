"""Experiments that build on others: their own values and network, tiny ones in their place, and whose files count."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY, copy_experiment
from runs import tiny_settings

from furnace.__main__ import main
from furnace.config.experiment import read_experiment

BASE, RECIPE = "ensemble_teacher+cutmix", "ensemble_teacher+dinov3"
PUBLISHED = {"decoder": "published", "optimizer": "sgd", "nepochs": "1"}  # with ResNet-18 from random weights
# In place of DINOv3; at the recipe's own rate.
TRANSFORMER = {"backbone": "tu-vit_tiny_patch16_224", "image_size": "64", "nepochs": "1", "learning_rate": ""}


def tiny(data: Path, output: Path, changed: dict[str, str]) -> list[str]:
    """A tiny run's settings, of which some are changed."""
    settings = dict(pair.split("=", 1) for pair in tiny_settings(data, output)) | changed
    return [f"{name}={text}" for name, text in settings.items()]


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    """A folder with copies of exp.voc and exp.city, so that their log_df.csv lie here."""
    for name in ("exp.voc", "exp.city"):
        for recipe in (BASE, RECIPE):
            copy_experiment(name, tmp_path / "my work+more" / name / recipe, recipe)
    return tmp_path / "my work+more"


@pytest.mark.parametrize(("name", "crop", "batch"), [("exp.voc", 512, 8), ("exp.city", 800, 4)])
def test_values(tmp_path: Path, name: str, crop: int, batch: int) -> None:
    texts = {"dataset_path": str(tmp_path), "labeled_ratio": "16", "pretrained_model": "none"}
    own, base = (read_experiment(REPOSITORY / name / recipe, texts) for recipe in (RECIPE, BASE))
    settings = own.settings
    assert (settings.decoder, settings.optimizer, settings.confidence) == ("DPT", "adamw", 0.95)
    assert settings.backbone == "tu-vit_base_patch16_dinov3.lvd1689m"
    rate = settings.learning_rate * settings.learning_rate_factor
    assert rate * settings.backbone_rate_factor == pytest.approx(5e-6) and rate == pytest.approx(40 * 5e-6)
    assert (settings.image_size, settings.batch_size, settings.weight_decay) == (crop, batch, 0.01)
    for kept in (
        "nepochs",
        "train_scales",
        "cps_weight",
        "ohem_threshold",
        "method",
        "teacher_norm",
        "validate_epochs",
    ):
        assert getattr(settings, kept) == getattr(base.settings, kept), kept
    assert own.dataset is base.dataset
    assert settings.OUTPUT_PATH.name == f"{name[4:]}16_DPT-vit_base_patch16_dinov3_cutmix_B{batch}_EMA"
    assert settings.OUTPUT_PATH.parent == base.settings.OUTPUT_PATH.parent


def test_a_run_belongs_to_the_files_of_the_base(
    experiments: Path, demo_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    own, base = experiments / "exp.voc" / RECIPE, experiments / "exp.voc" / BASE
    settings = tiny(demo_data, tmp_path / "run", PUBLISHED)
    assert main(["train", str(own), *settings]) == 0
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert set(record["code"]) == {"config.py", f"../{BASE}/config.py", f"../{BASE}/network.py"}
    assert record["settings"]["confidence"] == 0.95 and record["settings"]["weight_decay"] == 0.01
    assert main(["eval", str(own), *settings]) == 0
    with open(own / "log_df.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 7
    assert not (base / "log_df.csv").exists()
    assert f"{BASE}" not in capfd.readouterr().out  # no file was noted as another one

    # A change of the base's config.py that changes no result, and another network there.
    (base / "config.py").write_text((base / "config.py").read_text().replace("validate_epochs=4", "validate_epochs=1"))
    shutil.rmtree(tmp_path / "run/tb")
    with open(base / "network.py", "a") as file:
        file.write("\n# The same.\n")
    assert main(["train", str(own), *settings]) == 0
    assert "nothing to do" in capfd.readouterr().out
    with open(base / "network.py", "a") as file:
        file.write("\nbuild_network.mark = 1\n")
    assert main(["train", str(own), *settings]) == 2
    line = f"error: cannot resume with other settings: ../{BASE}/network.py has changed; set them back, "
    assert line in capfd.readouterr().err
    lists = ["--methods=ema", "--ratios=8", "--seeds=0", "--dry-run"]
    assert main(["sweep", str(own), *settings, *lists]) == 2
    assert f"holds a run with other settings: ../{BASE}/network.py has changed; " in capfd.readouterr().err


def test_the_recipe_for_cityscapes_with_a_tiny_network(experiments: Path, city_data: Path, tmp_path: Path) -> None:
    settings = tiny(city_data, tmp_path / "run", PUBLISHED | {"labeled_ratio": "2"})
    assert main(["train", str(experiments / "exp.city" / RECIPE), *settings]) == 0
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert record["settings"]["ohem_threshold"] == 0.7 and record["effective"]["learning_rate"] == 0.02


def test_a_small_vision_transformer_in_its_place(experiments: Path, demo_data: Path, tmp_path: Path) -> None:
    """DPT, AdamW, the encoder's own rate and the confidence are those of the recipe."""
    pytest.importorskip("segmentation_models_pytorch")
    settings = tiny(demo_data, tmp_path / "run", TRANSFORMER | {"validate_epochs": "0", "eval_epochs": "none"})
    assert main(["train", str(experiments / "exp.voc" / RECIPE), *settings]) == 0
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert [record["settings"][name] for name in ("decoder", "optimizer", "learning_rate")] == ["DPT", "adamw", 2e-4]
    teacher = torch.load(tmp_path / "run/ema_snapshot/ema_branch2_epoch1.pth", weights_only=True)["model"]
    assert "backbone.model.blocks.11.attn.qkv.weight" in teacher


def test_a_sweep_names_the_scripts_of_its_own_folder(
    experiments: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    own = experiments / "exp.voc" / RECIPE
    settings = tiny(demo_data, tmp_path / "{method}", PUBLISHED)
    arguments = ["sweep", str(own), "--methods=org,ema", "--ratios=8", "--seeds=0", *settings]
    assert main([*arguments, "--dry-run"]) == 0
    assert capfd.readouterr().out.count("  missing  ") == 2
    assert main([*arguments, "--launcher=slurm", "--out=jobs.sh"]) == 0
    assert (tmp_path / "jobs.sh").read_text().count(f"{own}/train_ema.sh") == 2
