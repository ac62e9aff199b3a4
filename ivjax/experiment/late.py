"""Late binding: how an option dataclass reaches the code that it describes.

Options import no jax, so that a config loads in a moment. What an option builds lives in another module,
which imports the options; the options only name it, always in their own room. Classes that an override or a
stored experiment names in full are found here, too.
"""

import importlib
from collections.abc import Callable
from typing import Any


def implementation_of(module: str, function: str) -> Callable[..., Any]:
    """Returns `function` of `module`, importing the module now."""
    return getattr(importlib.import_module(module), function)


def call(module: str, function: str, *arguments: Any, **options: Any) -> Any:
    """Returns what `function` of `module` returns for the arguments."""
    return implementation_of(module, function)(*arguments, **options)
