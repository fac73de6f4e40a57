"""The page that shows the code names what is there."""

import ast
import re
from pathlib import Path

import pytest
from repository import REPOSITORY

PAGE = (REPOSITORY / "docs/code.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:furnace|tests|exp\.\w+|scripts)/[\w./+-]*)(?::([\w.]+))?`", PAGE)


def definitions(path: Path) -> set[str]:
    """Functions, classes, methods and constants of a file: `Trainer`, `Trainer.run`, `METHODS`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{below.name}" for below in node.body if isinstance(below, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_what_the_page_names_is_there() -> None:
    assert len(NAMED) > 50
    for file, name in NAMED:
        path = REPOSITORY / file
        assert path.exists(), file
        assert not name or name in definitions(path), f"{file}:{name}"


def test_names_beside_a_file_are_there() -> None:
    """Such as: `PREDICTOR_LINES` in `furnace/report/figures.py`."""
    beside = re.findall(r"`(\w+)` (?:in|of) `(furnace/[\w./]+\.py)`", PAGE)
    assert len(beside) >= 3
    for name, file in beside:
        assert name in definitions(REPOSITORY / file), (name, file)


def test_the_page_shows_every_room() -> None:
    rooms = {path.name for path in (REPOSITORY / "furnace").iterdir() if (path / "__init__.py").is_file()}
    drawn = set(re.findall(r"^    \d +(\w+)[/.]", PAGE, re.MULTILINE))
    assert drawn == rooms | {"__main__", "pictures", "errors", "labels"}


def test_the_page_names_every_file() -> None:
    table = PAGE.partition("## Every file")[2].partition("## The way")[0]
    for room, text in re.findall(r"^\| (\w+) \| (.*) \|$", table, re.MULTILINE):
        if room != "room":
            shared = {"command"} | ({"pictures", "gallery"} if room in ("report", "evaluation", "training") else set())
            there = {path.stem for path in (REPOSITORY / "furnace" / room).glob("*.py")} - {"__init__"}
            named = set(re.findall(r"`(\w+)`", text))
            assert named <= there and there - named <= shared, room
    assert len(re.findall(r"^\| \w+ \| ", table, re.MULTILINE)) == 1 + len(
        list((REPOSITORY / "furnace").glob("*/__init__.py"))
    )


def test_the_table_answers_many_wishes() -> None:
    table = PAGE.partition("## I want to change")[2].partition("## Tests")[0]
    assert len(re.findall(r"^\| .* \| .* \|$", table, re.MULTILINE)) - 2 >= 20


@pytest.mark.parametrize(
    "page", [*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("docs/*.md"))], ids=lambda page: page.name
)
def test_files_that_pages_name_are_there(page: Path) -> None:
    """Links between pages, and paths of this project in the text."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for file in re.findall(r"(?<![\w/.])((?:furnace|tests)/[\w./]+\.(?:py|sh|md))\b", text):
        assert (REPOSITORY / file).exists(), file
