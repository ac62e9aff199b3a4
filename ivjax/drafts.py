"""Files that take their name only when they are whole."""

import os
import socket
from pathlib import Path

from ivjax.errors import UserError


def clear_drafts(folder: Path) -> None:
    """Removes what killed processes have left half-written."""
    for draft in folder.glob(".*.draft"):
        draft.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """Where a file is written until it is whole: beside it, hidden, this process's own."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.draft")


def store(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written: {reason}; make room or choose another folder") from None
    finally:
        draft.unlink(missing_ok=True)
