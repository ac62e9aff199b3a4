"""Says what a file is by its first bytes: a name does not tell weights from what was saved instead."""

import re
from pathlib import Path
from typing import Literal

from ivjax.errors import UserError

_READ = 2048  # bytes at a file's start that are looked at
_LONGEST_TEXT = 20_000  # bytes of a message that was saved in place of weights
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# The pickle of a number, with which torch began its files before version 1.6.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OTHERS = {
    b"\x1f\x8b": "a gzip archive; unpack it and give the file inside",
    b"\xfd7zXZ": "an xz archive; unpack it and give the file inside",
    b"BZh": "a bzip2 archive; unpack it and give the file inside",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it and give the file inside",
    b"7z\xbc\xaf": "a 7z archive; unpack it and give the file inside",
    b"Rar!": "a rar archive; unpack it and give the file inside",
    b"\x89HDF": "an HDF5 file, as Keras saves weights; give the same weights as .safetensors or torch file",
    b"GGUF": "a GGUF file of quantised weights; give the same weights as .safetensors or torch file",
    b"\x93NUMPY": "one array of numpy; give a file that names all tensors",
}


def kind_of(path: Path) -> Literal["safetensors", "torch"]:
    """Returns the format of a weight file; raises an error that says what any other file is."""
    head = _head(path)
    if head.startswith(_ZIP):
        return "torch"
    # Eight bytes of length, then JSON.
    if head[8:9] == b"{" and head[6:8] == b"\0\0":
        return "safetensors"
    if head.startswith(_OLD_TORCH):
        raise UserError(
            f"{path} is older than torch 1.6: load it with torch, and save its state dict once more"
        )
    for start, what in _OTHERS.items():
        if head.startswith(start):
            raise UserError(f"{path} is {what}")
    if head[257:262] == b"ustar":
        raise UserError(f"{path} is a tar archive; unpack it and give the file inside")
    _check_no_text(path, head)
    # Neither is known by its start alone: the reader of the format that the name promises says more.
    return "safetensors" if path.suffix == ".safetensors" else "torch"


def check_index(path: Path) -> None:
    """Raises an error if an index of shards is empty, or something else that was saved under its name."""
    _head(path)


def _head(path: Path) -> bytes:
    """Returns the first bytes of a file that is neither empty, nor a pointer, nor a web page."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_READ)
    if not size:
        raise UserError(f"{path} is empty: it has 0 bytes; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        found = re.search(rb"size (\d{1,18})", head)
        wanted = f"the file of {int(found[1]):,} bytes" if found else "the file"
        raise UserError(
            f"{path} is a pointer of Git LFS and not {wanted} that it stands for; run `git lfs pull` in its "
            "folder, or download the file itself"
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", head, re.DOTALL | re.IGNORECASE)
        named = f" ({title[1].decode(errors='replace')[:60]!r})" if title else ""
        raise UserError(
            f"{path} is an HTML page{named} and no weights: the download got a page of login or error; open "
            "the link in a browser, and download again with the access that it asks for"
        )
    return head


def _check_no_text(path: Path, head: bytes) -> None:
    """Raises an error that shows a short text, such as a server's message, that was saved as weights."""
    if path.stat().st_size > _LONGEST_TEXT or b"\0" in head:
        return
    try:
        text = " ".join(head.decode().split())
    except UnicodeDecodeError:
        return
    if text.isprintable():
        shown = text if len(text) <= 80 else f"{text[:80]}..."
        raise UserError(f"{path} is a text and no weights: it says {shown!r}; fetch the file again")
