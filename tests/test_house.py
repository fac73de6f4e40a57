"""The house keeps its order: rooms stand on floors, imports run downward, and a new file needs no entry here."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import REPOSITORY

FURNACE = REPOSITORY / "furnace"
# From the ground up. A room is a folder of furnace, or a file at its root; it may import those on floors below.
FLOORS = (
    {"errors", "labels"},
    {"network", "semi"},
    {"engine"},
    {"data", "pictures"},
    {"config", "prepare", "synthetic"},
    {"evaluation"},
    {"training", "prediction", "report"},
    {"sweep", "proof", "doctor"},
    {"__main__"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
NARROWER = {  # what a room leaves alone, although it stands below
    "data": {"network", "semi"},  # a data set is the same for every method
    "prepare": {"network", "semi", "pictures"},
    "synthetic": {"network", "semi", "pictures"},
    "engine": {"semi"},  # processes and files know no method
    "report": {"network"},
}
HEAVY = {"torch", "cv2", "pandas", "numpy", "matplotlib", "PIL", "scipy"}
FILES = sorted(FURNACE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(FURNACE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path) if name.startswith("furnace."))
    return {part[1] for part in parts} - {"__version__"}


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_imports_run_downward(room: str) -> None:
    for path in (path for path in FILES if room_of(path) == room):
        for other in rooms_imported(path) - {room}:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{path} imports {other}, which does not stand below {room}"
            assert other not in NARROWER.get(room, ()), f"{path} imports {other}, which {room} leaves alone"


def test_every_file_stands_on_a_floor() -> None:
    assert {room_of(path) for path in FILES} == {*FLOOR_OF, "__init__"}
    assert not list(imports(FURNACE / "__init__.py"))


@pytest.mark.parametrize("room", ["data", "prepare", "synthetic"])
def test_data_knows_the_machine_but_no_processes(room: str) -> None:
    for path in (FURNACE / room).rglob("*.py"):
        used = {name.split(".")[2] for name in imports(path) if name.startswith("furnace.engine.")}
        assert used <= {"files", "signals", "bars", "machine"}, path


def test_every_room_has_a_caption_and_nothing_else_in_its_face() -> None:
    for room in FLOOR_OF:
        if (FURNACE / room).is_dir():
            text = (FURNACE / room / "__init__.py").read_text(encoding="utf-8")
            (only,) = ast.parse(text).body
            assert ast.unparse(only).startswith(("'''", '"""', "'", '"')) and len(text.splitlines()) == 5, room
            assert "\nMay import: " in text and "\nBegin with: " in text, room


def test_the_root_holds_five_files() -> None:
    assert {path.name for path in FURNACE.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "labels.py",
        "pictures.py",
    }
    assert len((FURNACE / "__main__.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_a_name_does_not_repeat_its_folder() -> None:
    for path in FILES:
        assert path.stem == "__init__" or not path.stem.startswith(f"{path.parent.name}_"), path


def test_files_of_one_name_mean_the_same() -> None:
    """Each of these says the same of its room: its commands, what it draws, the pictures kept of an evaluation."""
    names = [path.name for path in FILES if path.name != "__init__.py"]
    assert {name for name in names if names.count(name) > 1} <= {"command.py", "pictures.py", "gallery.py"}


def test_one_folder_knows_processes() -> None:
    knowing = {
        path.relative_to(FURNACE).as_posix()
        for path in FILES
        if any(f"{name}.".startswith("torch.distributed.") for name in imports(path))
    }
    assert knowing == {
        f"engine/{name}.py" for name in ("distributed", "exchange", "join", "sync_batch_norm", "torchrun")
    }


def test_help_imports_nothing_heavy() -> None:
    """Every --help answers at once: what describes commands imports no torch, OpenCV or pandas."""
    script = """
import argparse, contextlib, io, sys
from furnace.__main__ import _parser, main

def names(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield [name]
                yield from ([name, *below] for below in names(command))

for name in [[], *names(_parser())]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*name, "--help"])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    found = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert "furnace" in loaded and not loaded & HEAVY


def test_importing_a_configuration_writes_nothing() -> None:
    """No experiment's config.py opens, makes or changes anything: it imports a data set and calls EasyDict."""
    for path in REPOSITORY.glob("exp.*/*/config.py"):
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        assert [getattr(call, "id", None) for call in calls] == ["EasyDict"], path


def test_text_is_utf8_wherever_it_is_read_or_written() -> None:
    """The encoding of the locale decides nothing but what a terminal shows."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            texts = [ast.unparse(argument) for argument in node.args]
            on_path = isinstance(function, ast.Attribute)
            reads = name in ("read_text", "write_text") and on_path
            opens = name == "open" and not on_path and "b" not in given.get("mode", texts[1] if len(texts) > 1 else "")
            runs = name in ("run", "Popen", "check_output") and "text" in given
            assert not (reads or opens or runs) or "encoding" in given, f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_one_file_makes_progress_bars() -> None:
    found = {path.relative_to(FURNACE).as_posix() for path in FILES for name in imports(path) if "tqdm" in name}
    assert found == {"engine/bars.py"}
