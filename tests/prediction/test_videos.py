"""A video that is whole is labelled whole, whatever number of frames it announces."""

from pathlib import Path

import pytest
from photos import write_clip

from furnace.errors import InputError
from furnace.prediction import videos

FTYP = b"\0\0\0\x10ftypisom\0\0\0\0"
EBML = b"\x1a\x45\xdf\xa3\x84abcd"
SEGMENT = b"\x18\x53\x80\x67"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.avi")


def test_fewer_frames_than_announced_are_a_note(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As of a screen that stands still, or of a part that was cut out without encoding it anew."""
    monkeypatch.setattr(videos, "_announced", lambda _: 170)
    assert len(list(videos.frames(clip))) == 12
    said = capsys.readouterr().err.splitlines()
    assert said == [f"note: {clip}: announces 170 frames, has 12; all of them are labelled"]


def test_a_video_that_announces_nothing_is_whole(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(videos, "_announced", lambda _: 0)
    assert len(list(videos.frames(clip))) == 12 and not capsys.readouterr().err


def test_a_file_that_breaks_off_is_an_error_behind_its_frames(clip: Path) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    found = []
    with pytest.raises(InputError, match=r"clip\.avi: expected 12 frames, found \d"):
        found.extend(videos.frames(clip))
    assert 0 < len(found) < 12


@pytest.mark.parametrize(
    ("content", "breaks_off"),
    [
        (FTYP + b"\0\0\0\x0cmdatabcd", False),
        (FTYP + b"\0\0\0\x0dmdatabcd", True),
        (FTYP + b"\0\0\0\0mdatabcd", False),  # to the end, wherever that is
        (FTYP + b"\0\0\0\1mdat\0\0\0\0\0\0\0\x14abcd", False),
        (FTYP + b"\0\0\0\1mdat\0\0\0\0\0\0\0\x15abcd", True),
        (b"RIFF\4\0\0\0AVI ", False),
        (b"RIFF\5\0\0\0AVI ", True),
        (EBML + SEGMENT + b"\x84abcd", False),
        (EBML + SEGMENT + b"\x40\x04abcd", False),
        (EBML + SEGMENT + b"\x40\x05abcd", True),
        (EBML + SEGMENT + b"\x01\xff\xff\xff\xff\xff\xff\xffabcd", False),  # a stream, whose length nobody knew
        (EBML + SEGMENT + b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0", False),
        (b"something else", False),
        (b"", False),
    ],
)
def test_containers_say_where_they_end(tmp_path: Path, content: bytes, breaks_off: bool) -> None:
    path = tmp_path / "video"
    path.write_bytes(content)
    assert videos.breaks_off(path) == breaks_off


@pytest.mark.parametrize("name", ["a.mp4", "a.M4V", "b.webm", "c.MTS", "d.mpg", "e.mpeg", "f.wmv", "g.mkv", "h.3gp"])
def test_videos_by_their_endings(name: str) -> None:
    assert videos.VIDEO.fullmatch(name)
    assert not videos.VIDEO.fullmatch(name + ".png")
