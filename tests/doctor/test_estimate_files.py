"""The bytes that an estimate tells are those of the files that a run writes."""

from collections.abc import Callable
from pathlib import Path

from runs import make_experiment, tiny_settings

from furnace.config.experiment import read_experiment
from furnace.doctor.one_process import OneProcess, made
from furnace.doctor.storage import prediction_bytes, saved_bytes, seconds_a_byte
from furnace.engine.distributed import World


def test_bytes_are_those_of_a_run(straight: Callable[..., Path], demo_data: Path, tmp_path: Path) -> None:
    settings = dict(pair.split("=", 1) for pair in tiny_settings(demo_data, tmp_path / "none"))
    process = OneProcess(read_experiment(make_experiment(tmp_path), settings), World(), 1, 1)
    work = process.works()[0]
    process.step(made(process.samples(work.with_pairs), 0), work)

    run, saved = straight(), saved_bytes(process.learner)
    files = [run / "snapshot/model_epoch3.pth", *(run / f"ema_snapshot/ema_branch{k}_epoch3.pth" for k in (1, 2))]
    snapshot, resume = sum(path.stat().st_size for path in files), (run / "resume.pth").stat().st_size
    assert abs(saved.snapshot / snapshot - 1) < 0.01 and 0.9 < saved.progress / resume <= 1
    assert 0 < seconds_a_byte(process.learner, tmp_path / "not" / "there") < 1e-3
    assert not (tmp_path / "not").exists()
    assert seconds_a_byte(process.learner, Path("/proc/nothing")) == 0
    assert 8 * 200 < prediction_bytes(process.experiment.split("val")) < 8 * 20_000
