"""Classes files: every form that other programs write gives the same classes, and what is nearly a form is refused."""

from pathlib import Path

import pytest

from furnace.data.datasets import Colour
from furnace.errors import InputError
from furnace.prepare.classes import find_classes, read_classes
from furnace.prepare.command import _classes

COLOURS: list[Colour] = [(0, 0, 0), (250, 50, 83), (36, 179, 83)]
BY_COLOUR = {colour: index for index, colour in enumerate(COLOURS)}
IN_ORDER = {0: 0, 1: 1, 2: 2, 255: 255}
# By form: its text, and what values and colours mean.
FORMS: dict[str, tuple[str, dict[int, int], dict[Colour, int]]] = {
    "names": ("ground\nroad\ncar\n", IN_ORDER, {}),
    "names, comments, blank lines, Windows": ("# mine\r\nground\r\n\r\n  # more\r\nroad\r\ncar", IN_ORDER, {}),
    "labelme": ("__ignore__\nground\nroad\ncar\n", IN_ORDER, {}),
    "labelme, ignored later": ("ground\nroad\n__ignore__\ncar\n", IN_ORDER, {}),
    "Kaggle": ("name,r,g,b\nground,0,0,0\nroad,250,50,83\ncar,36,179,83\n", IN_ORDER, BY_COLOUR),
    "Kaggle, spaces": ("name, r, g, b\nground, 0, 0, 0\nroad, 250, 50, 83\ncar, 36, 179, 83\n", IN_ORDER, BY_COLOUR),
    "CVAT": (
        "# label:color_rgb:parts:actions\nground:0,0,0::\nroad:250,50,83::\ncar:36,179,83:wheel,door:act\n",
        IN_ORDER,
        BY_COLOUR,
    ),
    "Roboflow": ("Pixel Value, Class\n0, ground\n1, road\n2, car\n", IN_ORDER, {}),
    "values": ("class;value\nground;0\nroad;7\ncar;9\n__ignore__;3\n", {0: 0, 7: 1, 9: 2, 3: 255, 255: 255}, {}),
    "JSON names": ('["ground", "road", "car"]', IN_ORDER, {}),
    "JSON values": ('{"ground": 0, "road": 5, "car": 6}', {0: 0, 5: 1, 6: 2, 255: 255}, {}),
    "JSON names by values": ('{"0": "ground", "5": "road", "6": "car"}', {0: 0, 5: 1, 6: 2, 255: 255}, {}),
    "JSON colours": ('{"ground": [0, 0, 0], "road": [250, 50, 83], "car": [36, 179, 83]}', IN_ORDER, BY_COLOUR),
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_every_form(tmp_path: Path, form: str, start: str) -> None:
    text, values, colours = FORMS[form]
    found = read_classes(written(tmp_path, start + text), None)
    assert found.names == ("ground", "road", "car")
    assert (found.code.values, found.code.colours) == (values, colours)
    assert found.code.by_palette == bool(colours) and (list(found.palette) == COLOURS or not colours)
    assert "3 classes of" in found.meaning and "ground, road, car" in found.meaning


def test_classes_of_supervisely(tmp_path: Path) -> None:
    """What is around everything has no line of its own: it is the class `background`."""
    found = read_classes(written(tmp_path, '{"road": [1, 1, 1], "car": [2, 2, 2]}'), None)
    assert found.names == ("background", "road", "car")
    assert found.code.values == IN_ORDER and found.code.colours[2, 2, 2] == 2
    meta = '{"classes": [{"title": "road", "color": "#FA3253", "id": 7}], "tags": []}'
    found = read_classes(written(tmp_path, meta), None)
    assert found.names == ("background", "road") and found.code.colours == {(0, 0, 0): 0, (250, 50, 83): 1}


@pytest.mark.parametrize("name", ["Ignored", "IGNORED", "__Ignore__"])
def test_what_is_ignored_may_be_called_so_in_any_case(tmp_path: Path, name: str) -> None:
    found = read_classes(written(tmp_path, f"Name,Value\nground,0\nroad,1\n{name},128\n"), None)
    assert found.names == ("ground", "road") and found.code.values == {0: 0, 1: 1, 128: 255, 255: 255}
    assert read_classes(written(tmp_path, f"ground\nroad\n{name}\n"), None).names == ("ground", "road")


def test_names_in_place_of_a_file() -> None:
    found = read_classes(("ground", "road"), None)
    assert found.names == ("ground", "road") and found.only_names


def test_only_plain_names_leave_255_open(tmp_path: Path) -> None:
    assert read_classes(written(tmp_path, "ground\nroad\n"), None).only_names
    assert not read_classes(written(tmp_path, "__ignore__\nground\nroad\n"), None).only_names
    assert not read_classes(written(tmp_path, FORMS["Roboflow"][0]), None).only_names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0: ground\n1: road\n", "numbers before the names"),
        ("ground 0\nroad 255\n", "numbers behind the names"),
        ("name value\nground 0\nroad 1\n", "numbers behind the names"),
        ("ground=0\nground=1\n", "numbers behind the names"),
        ("'ground'\n'road'\n", "the line"),
        ("ground]\nroad\n", "the line"),
        ("// mine\nground\nroad\n", "the line"),
        ("1 ground\n2 road\n", "numbers before the names"),
        ("names:\n- ground\n- road\n", "the line 'names:'"),
        ("item {\n  name: 'ground'\n}\n", "the line 'item {'"),
        ("<classes><name>ground</name></classes>", "the line '<classes>"),
        ('{"images": [], "annotations": [], "categories": []}', "other JSON"),
        ('[{"png_index": 1, "class_name": "road"}]', "other JSON"),
        ("{}", "other JSON"),
        ('{"road": "red"}', "other JSON"),
        ("ground:0,0,0::\nroad\n", "the line 'ground:0,0,0::'"),
        ("name,r,g\nground,0,0\n", "not all three"),
        ("name,value,comment\nground,0,soil\n", "the column 'comment'; take it out"),
        ("name,value,id\nground,0,0\n", "'value' twice; mend it"),
        ("# nothing\n", "0"),
        ("__ignore__\n", "0"),
    ],
)
def test_what_is_nearly_a_form_is_refused(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(InputError, match=r"classes file not understood: .*expected") as error:
        read_classes(written(tmp_path, text), None)
    assert f"found {found}" in str(error.value)


def test_names_that_begin_with_numbers(tmp_path: Path) -> None:
    assert read_classes(written(tmp_path, "1 cent\n2 cents\n5 cents\n"), None).names == ("1 cent", "2 cents", "5 cents")


def test_a_value_to_ignore_that_is_a_class(tmp_path: Path) -> None:
    path = written(tmp_path, "ground\nroad\n")
    with pytest.raises(InputError, match=r"--ignore 0: expected a value of no class, but .* gives it to 'ground'"):
        read_classes(path, (7, 0))
    assert read_classes(path, (7,)).code.values == {0: 0, 1: 1, 7: 255}
    path.write_text("name,value\nground,0\nroad,255\n")
    assert read_classes(path, None).code.values == {0: 0, 255: 1}
    with pytest.raises(InputError, match="--ignore 255"):
        read_classes(path, (255,))


def test_the_file_that_is_found() -> None:
    assert find_classes(["a/labels.txt", "x/labelmap.txt", "notes.txt"]) == "x/labelmap.txt"
    assert find_classes(["meta.json", "obj_class_to_machine_color.json", "sub/classes.csv"]) == (
        "obj_class_to_machine_color.json"
    )
    assert find_classes(["notes.txt"]) is None


def test_numbered_names_and_many_names_are_names(tmp_path: Path) -> None:
    assert read_classes(written(tmp_path, "type 1\ntype 2\nother\ntype 3\n"), None).names[-1] == "type 3"
    assert read_classes(written(tmp_path, "grade 1\ngrade 2\n"), None).names == ("grade 1", "grade 2")
    many = ",".join(f"class{number}" for number in range(150))
    assert _classes(many) == tuple(many.split(","))
