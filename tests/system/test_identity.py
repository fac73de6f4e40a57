"""What a run was trained by belongs to it: a resume, a sweep, an evaluation and predict notice another network."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import KilledError, before_step

from furnace.__main__ import main
from furnace.config.experiment import for_evaluation, read_experiment
from furnace.config.record import read_record, trained_settings
from furnace.errors import InputError
from furnace.prediction.trained import find_trained

HELPER = "from furnace.network.deeplabv3plus import DeepLabV3Plus\n"
OTHER_HELPER = f"{HELPER}DeepLabV3Plus.mark = 1\n"
NETWORK = "from my_layers import DeepLabV3Plus\n\nbuild_network = DeepLabV3Plus\n"


def kill() -> None:
    raise KilledError


def test_a_run_belongs_to_its_experiment(
    experiment: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (experiment / "network.py").write_text(NETWORK)
    helper = experiment / "my_layers.py"
    helper.write_text(HELPER)
    settings = [pair for pair in tiny if not pair.startswith("nepochs")]
    settings += ["nepochs=2", "validate_epochs=0", "eval_epochs=1", "picture_iter=0", "ensemble=v0"]
    # The file is edited while the run goes on, which has imported it before; the kill comes in the second epoch.
    before_step(monkeypatch, {2: lambda: helper.write_text(OTHER_HELPER), 8: kill})
    with pytest.raises(KilledError):
        main(["train", str(experiment), *settings])
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert record["experiment_folder"] == str(experiment)
    assert {name: len(digest) for name, digest in record["code"].items()} == dict.fromkeys(
        ("config.py", "my_layers.py", "network.py"), 64
    )
    capfd.readouterr()

    # Another network, here in the module beside network.py: nothing goes on from it in silence.
    said = "my_layers.py has changed"
    assert main(["train", str(experiment), *settings]) == 2
    line = f"error: cannot resume with other settings: {said}; set them back, choose another OUTPUT_PATH, or set resume"
    assert line in capfd.readouterr().err
    lists = ["--methods=ema", "--ratios=8", "--seeds=0", "--dry-run"]
    assert main(["sweep", str(experiment), *settings, *lists]) == 2
    assert f"holds a run with other settings: {said}; " in capfd.readouterr().err
    note = f"note: since this run was trained, {said}\n"
    assert main(["eval", str(experiment), *settings]) == 0
    out = capfd.readouterr().out
    assert out.startswith(note) and out.endswith(note) and "epoch 1 of run: mean IoU" in out
    find_trained(experiment, settings, None, None, None)  # as predict and export do
    assert capfd.readouterr().out == note

    # The same network in a folder that was moved, and a change of config.py that changes no result.
    helper.write_text(f"# The same again.\n{HELPER}")
    moved = experiment.rename(tmp_path / "moved")
    configuration = moved / "config.py"
    configuration.write_text(configuration.read_text().replace("validate_epochs=4", "validate_epochs=5"))
    assert main(["train", str(moved), *settings]) == 0
    out = capfd.readouterr().out
    assert f"note: this run was begun from {experiment}, whose network is the same\n" in out
    assert "note: config.py has changed since the run was started last; what decides its result has not" in out
    assert main(["eval", str(moved), *settings]) == 0
    assert "note: " not in capfd.readouterr().out

    # Other classes are another task, wherever they are declared.
    declared = configuration.read_text()
    configuration.write_text(
        "from dataclasses import replace\n"
        f"{declared}\nconfig.dataset = replace(config.dataset, classes=config.dataset.classes[::-1])\n"
    )
    assert main(["train", str(moved), *settings]) == 2
    assert "error: cannot resume with other settings: classes was ['background', " in capfd.readouterr().err
    assert main(["eval", str(moved), *settings]) == 2
    error = capfd.readouterr().err
    assert "expected the classes of the run in their order, found others: classes was ['background', " in error
    with pytest.raises(InputError, match="expected the classes of the run in their order"):
        find_trained(moved, settings, None, None, None)
    configuration.write_text(configuration.read_text().replace("[::-1]", "[:-1] + ('screen',)"))
    find_trained(moved, settings, None, None, None)
    assert capfd.readouterr().out == "note: since this run was trained, class tv/monitor has become screen\n"
    configuration.write_text(declared)

    # A run from before all this was recorded goes on as it did.
    state = torch.load(tmp_path / "run/resume.pth", weights_only=True)
    del state["settings"]["code"], state["settings"]["classes"]
    torch.save(state, tmp_path / "run/resume.pth")
    (moved / "my_layers.py").write_text(OTHER_HELPER)
    assert main(["train", str(moved), *settings]) == 0
    assert "nothing to do" in capfd.readouterr().out


def test_scores_of_another_list_are_replaced_with_a_note(
    run: Callable[..., int], demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("train", "nepochs=1", "method=org") == 0 and run("eval", "nepochs=1") == 0
    assert "were scored before" not in capsys.readouterr().out
    lists = tmp_path / "lists"
    shutil.copytree(demo_data, lists, ignore=shutil.ignore_patterns("image", "label"))
    entries = (demo_data / "val.txt").read_text().splitlines()[:2]
    (lists / "val.txt").write_text("".join(f"{entry}\n" for entry in entries))
    assert run("eval", "nepochs=1", f"lists_path={lists}") == 0
    out = capsys.readouterr().out
    assert f"note: 8 images of {demo_data}/val.txt were scored before; these scores, of 2 images of {lists}" in out
    shown = [path.stem for path in (tmp_path / "run/gallery/epoch1").glob("*.json")]
    assert sorted(shown) == ["0", "1"] and run("eval", "nepochs=1", f"lists_path={lists}") == 0
    assert "were scored before" not in capsys.readouterr().out


def test_after_a_forced_resume_a_run_is_what_its_last_start_made_it(
    run: Callable[..., int], experiment: Path, tmp_path: Path, tiny: list[str]
) -> None:
    assert run("train", "nepochs=1", "method=org") == 0
    assert run("train", "nepochs=2", "method=org", "image_size=48", "learning_rate=0.1", "resume=force") == 0
    record = read_record(tmp_path / "run")
    assert record["settings"]["image_size"] == 32 and trained_settings(record)["image_size"] == 48
    texts = {name: text for name, text in (pair.split("=", 1) for pair in tiny) if name != "image_size"}
    assert for_evaluation(read_experiment(experiment, texts)).settings.image_size == 48
