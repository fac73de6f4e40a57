"""How often progress bars are drawn, and lines above them."""

import io
import sys

import pytest

from furnace.engine import bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def states(text: str) -> list[str]:
    return [state for state in text.replace("\n", "\r").split("\r") if "image" in state]


def test_in_a_file_a_bar_is_drawn_at_its_begin_and_end_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast images come, and whatever lines are printed above it, as by `predict` for images that are bad."""
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    monkeypatch.setattr(sys, "stdout", file)
    for number in bars.bar(range(200), unit="image"):
        if number % 50 == 0:
            bars.tell(f"line {number}")
            with bars.above_bars():
                print("said", number, file=sys.stderr)
    assert len(states(file.getvalue())) == 2
    lines = [line.rpartition("\r")[2] for line in file.getvalue().splitlines()]
    assert [line for line in lines if "line" in line] == [f"line {number}" for number in (0, 50, 100, 150)]
    assert lines.count("said 50") == 1


def test_every_half_minute_it_is_drawn_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    with bars.bar(total=4, unit="image") as shown:
        for _ in range(4):
            shown.last_print_t -= bars.UNWATCHED + 1  # that much time passes
            shown.update()
    assert [state.split("|")[2].split()[0] for state in states(file.getvalue())] == [
        "0/4",
        "1/4",
        "2/4",
        "3/4",
        "4/4",
        "4/4",
    ]


def test_on_a_terminal_it_stays_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(sys, "stdout", terminal)
    for _ in bars.bar(range(3), unit="image"):
        bars.tell("line")
    assert len(states(terminal.getvalue())) >= 5  # redrawn below each line
