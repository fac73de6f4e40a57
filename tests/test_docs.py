"""The pages name what is there, and the one that shows the code names all of it."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.__main__ import _parser
from furnace.config.settings import FIELDS

PAGE = (REPOSITORY / "docs/code.md").read_text(encoding="utf-8")
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("docs/*.md"))]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_are_there(page: Path) -> None:
    """Links between pages, and paths of this project in the text."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for file in re.findall(r"(?<![\w/.])((?:furnace|tests)/[\w./]+\.(?:py|sh|md))\b", text):
        assert (REPOSITORY / file).exists(), file


def anchors(page: Path) -> set[str]:
    """What a link may have behind its #: the headings of a page, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert heading in anchors(page.parent / target if target else page), f"{target}#{heading}"


def test_settings_that_pages_name_are_there() -> None:
    """Such as `cps_weight=0.2`, on every page that tells of training."""
    others = {"weights_only", "ground"}  # an argument of torch.load, a class of own data
    for page in PAGES:
        code = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        names = {name for text in code for name in re.findall(r"(?:^| )([a-z][a-z_0-9]+)=", text)}
        assert names <= set(FIELDS) | others, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_pages_show_are_understood(page: Path) -> None:
    """Commands that stand on lines of their own; what they are told is looked at, and nothing is run."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    (?:.*; |\w+=\S+ )*python -m furnace (.*)$", text, re.MULTILINE):
        options = _parser().parse_args(shlex.split(line, comments=True))
        names = {word.split("=", 1)[0] for word in getattr(options, "settings", []) if "=" in word}
        assert names <= set(FIELDS), line
