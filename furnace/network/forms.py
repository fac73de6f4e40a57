"""What a file is that should hold weights and does not, told by its first bytes."""

import string
import zipfile
from pathlib import Path

PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")
READABLE = string.printable.encode()


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: with the length of a head in JSON, and that head."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


def form_of(path: Path) -> str | None:
    """Says what a file is that torch.save has not written, and what helps; None if that is not known."""
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the file; `git lfs pull` brings it"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "a web page in place of the file; download the file itself"
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file; name one of PyTorch"
    if start.startswith(b"\x08") and b"pytorch" in start[:64]:
        return "an ONNX graph; name the file of PyTorch that it was made of"
    if start.startswith(PACKED) or start[257:262] == b"ustar":
        return "an archive; unpack it, and name a file of it"
    if zipfile.is_zipfile(path):
        return _form_of_zip(path)
    if start and all(byte in READABLE for byte in start):
        return f"text, which begins with {start[:40].decode('ascii')!r}; download the file itself"
    return None


def _form_of_zip(path: Path) -> str | None:
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        return "a TorchScript archive; save the state_dict() of what torch.jit.load returns"
    if any(name.endswith(("/data.pkl", "/version")) for name in names):  # one of torch.save's that is damaged
        return None
    return "a zip archive, but none of torch.save; unpack it, and name a file of it"
