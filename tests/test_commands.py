"""The first minutes: help that fits a screen, and examples that are right."""

import argparse
import shlex
import sys

import pytest

from furnace.__main__ import _parser, main


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser, by name, kinds of a command too."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found |= {name: command, **{f"{name} {kind}": below for kind, below in subparsers(command).items()}}
    return found


COMMANDS = subparsers(_parser())


def test_help_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = _parser().format_help().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    for name in COMMANDS:
        if " " not in name:
            assert any(line.split()[:1] == [name] for line in lines), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_that_it_understands(name: str) -> None:
    lines = (COMMANDS[name].epilog or "").splitlines()
    examples = [line.partition("python -m furnace ")[2] for line in lines if "python -m furnace " in line]
    assert examples and "example" in lines[0]
    for example in examples:
        assert example.startswith(name.split()[0])
        _parser().parse_args(shlex.split(example))


@pytest.mark.parametrize("package", ["pandas", "jinja2"])
def test_a_package_that_is_missing_is_named(package: str, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.csv").write_text("epoch,loss\n1,2\n")
    for name in [name for name in sys.modules if name.startswith((package, "furnace.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: the package {package} is missing; pip install -r requirements.txt\n"
