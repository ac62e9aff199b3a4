"""The seal of a checkpoint: digests of all that it holds, kept in its description of the run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ivjax.ops.digests import array_digests

# Of arrays and not of files: what a model gets is checked, after every cache, network and decoder; each host
# checks what it reads, on its devices; and a checkpoint is sealed in the moment in which it becomes valid.
_SEAL = "seal"


def sealed(meta: Mapping[str, Any], data: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `meta` with the seal of a checkpoint that holds it, `data` and the arrays of `state`."""
    arrays = array_digests(state, state["params"])
    seal = {"arrays": arrays, "data": _digest(data), "meta": _digest(meta)}
    return {**meta, _SEAL: seal}


def damage(meta: Mapping[str, Any], data: Mapping[str, Any] | None, state: Mapping[str, Any]) -> str | None:
    """What of a checkpoint is not what was saved; None if all is, or if it was saved without a seal.

    What was not read needs not be given: `state` may hold some of the items, and `data` may be None.
    """
    if _SEAL not in meta:
        return None
    seal = meta[_SEAL]
    if _digest({name: value for name, value in meta.items() if name != _SEAL}) != seal["meta"]:
        return "its description of the run is not the one that was saved"
    if data is not None and _digest(data) != seal["data"]:
        return "its position in the data is not the one that was saved"
    found = array_digests(state, state.get("params"))
    changed = [path for path, digest in found.items() if seal["arrays"].get(path) != digest]
    if not changed:
        return None
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{', '.join(changed[:3])}{more} came back with other values than were saved"


def _digest(value: Mapping[str, Any]) -> str:
    # As it comes back from a file, where tuples are lists and keys are words.
    plain = json.loads(json.dumps(value))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
