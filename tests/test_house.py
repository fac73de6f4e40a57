"""The house keeps its order: who may import whom, and where processes are known."""

import ast
from pathlib import Path

import pytest
from conftest import REPOSITORY

FURNACE = REPOSITORY / "furnace"
COMMANDS = (
    "experiment",
    "train",
    "learner",
    "announcement",
    "evaluate",
    "validation",
    "sweep",
    "progress",
    "training_pictures",
    "evaluation_pictures",
    "score_report",
    "evaluation_gallery",
    "report",
    "trained",
    "predict",
    "prediction",
    "prediction_pictures",
    "export",
    "onnx_graph",
)
FORBIDDEN = {
    "semi": ("data", "engine", *COMMANDS),
    "data": ("semi", "network", "engine.checkpoint", "engine.distributed", *COMMANDS),
    "engine": ("semi", "data", *COMMANDS),
    "network": ("semi", "data", "engine", *COMMANDS),
}


def imports(path: Path) -> set[str]:
    """The full names of the modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_run_downward(part: str) -> None:
    for path in (FURNACE / part).rglob("*.py"):
        for name in imports(path):
            for other in FORBIDDEN[part]:
                assert not f"{name}.".startswith(f"furnace.{other}."), f"{path} imports {name}"


def test_one_folder_knows_processes() -> None:
    knowing = {
        path.relative_to(FURNACE).as_posix() for path in FURNACE.rglob("*.py") if "torch.distributed" in imports(path)
    }
    assert knowing == {"engine/distributed.py", "engine/launch.py", "engine/sync_batch_norm.py"}


def test_importing_a_configuration_writes_nothing() -> None:
    """No experiment's config.py opens, makes or changes anything: it imports a data set and calls EasyDict."""
    for path in REPOSITORY.glob("exp.*/*/config.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert [getattr(call, "id", None) for call in calls] == ["EasyDict"], path
