"""Files in buckets: what is an address of one, and how it is reached and read."""

import functools
import importlib.util
import logging
import os
import re
from typing import TYPE_CHECKING, Any

from ivjax.errors import UserError, in_short

if TYPE_CHECKING:
    from etils import epath

_ADDRESS = re.compile(r"(gs|s3)://[\w.-]+(/[^#?]*)?")
_REQUEST_SECONDS = 60  # a request that hangs would hang for ever


def is_bucket(text: str) -> bool:
    """Whether a text is the address of a bucket or of something in it."""
    return _ADDRESS.fullmatch(text) is not None


@functools.cache
def bucket_path(address: str) -> "epath.Path":
    """Returns the path of an address; raises UserError if it cannot be reached here, or names no folder."""
    scheme, _, path = address.partition("://")
    if scheme != "gs":
        raise UserError(
            f"{address}: of buckets gs:// alone is taken, as Orbax writes runs to no other; mount this one, "
            "and give the folder of the mount"
        )
    if "/" not in path:
        raise UserError(f"{address} is a whole bucket; name a folder in it")
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{address}: gs:// needs gcsfs: pip install 'ivjax[gcs]'")
    # One reader for all: TensorFlow, where it is installed, would be taken for it.
    os.environ.setdefault("EPATH_USE_TF", "0")
    import fsspec

    # What others write would stay unseen in a list that is kept.
    settings = {"use_listings_cache": False, "requests_timeout": _REQUEST_SECONDS}
    for name in ("gcs", "gs"):
        fsspec.config.conf.setdefault(name, {}).update(settings)
    # Pages about each request that is tried again.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    from etils import epath

    return epath.Path(address)


def read_text(address: str) -> str | None:
    """Returns the text of a file; None if there is no such file."""
    try:
        return bytes(_files(address).cat_file(address)).decode()
    except FileNotFoundError:
        return None
    except UserError:
        raise
    except Exception as error:  # whatever the packages of several stores raise
        raise _unreadable(address, error) from error


def sizes_in(address: str) -> dict[str, int]:
    """Returns the size of each file in a folder, by its name."""
    try:
        found = _files(address).ls(address, detail=True)
    except FileNotFoundError:
        return {}
    except UserError:
        raise
    except Exception as error:  # whatever the packages of several stores raise
        raise _unreadable(address, error) from error
    return {file["name"].rpartition("/")[2]: file["size"] for file in found if file["type"] == "file"}


def read_range(address: str, start: int, stop: int) -> bytes:
    """Returns some bytes of a file; raises whatever the package raises."""
    return bytes(_files(address).cat_file(address, start, stop))


def _files(address: str) -> Any:
    bucket_path(address)
    import fsspec

    # Not by epath, which needs three requests to read a file, and reads files whole.
    return fsspec.filesystem("gcs")


def _unreadable(address: str, error: Exception) -> UserError:
    return UserError(f"{address} cannot be read ({in_short(error)}); check the address and your permissions")
