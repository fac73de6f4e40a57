"""The end of a log that grows: the last line or bar, and the last error, without what other starts wrote."""

from pathlib import Path

from furnace.sweep.log_tail import FAR, LogTail


def test_the_last_line_or_bar_counts(tmp_path: Path) -> None:
    path = tmp_path / "sweep.log"
    tail = LogTail(path, 0)
    assert tail.last() == "" and tail.error() == "it said nothing"
    path.write_text("--- 2026-01-01 00:00:00, training: python\n")
    assert tail.last() == ""
    for text, last in (
        ("epoch 1 | loss 2 | mean IoU 3\n", "epoch 1 | loss 2 | mean IoU 3"),
        ("\r  0%|          | 0/9 [00:00<?]\r 11%|█▌        | 1/9 [00:01<?]", "11% 1/9 [00:01<?]"),
        ("\n\x1b[31mred\x1b[0m\n\n  \n", "red"),
        ("x" * 5000 + "end\n", "x" * 4092 + "end"),
        ("half a letter: \u00e9", "half a letter: \u00e9"),
    ):
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
        assert tail.last() == last


def test_a_log_that_stands_still_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "sweep.log"
    path.write_text("first\n")
    tail = LogTail(path, 0)
    assert tail.last() == "first"
    path.write_text("other\n")  # as long
    assert tail.last() == "first"
    path.unlink()
    assert tail.last() == ""


def test_errors_of_earlier_starts_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "sweep.log"
    path.write_text("error: of an earlier start\n")
    tail = LogTail(path, path.stat().st_size)
    assert tail.last() == "" and tail.error() == "it said nothing"
    with path.open("a") as file:
        file.write("error: no images\nanother line\n" + "a line\n" * 100)
    assert tail.error() == "error: no images" and tail.last() == "a line"
    with path.open("a") as file:
        file.write("a line\n" * FAR)
    assert tail.error() == "a line"
