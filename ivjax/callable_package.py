"""Packages that are called as one of their functions: `ivjax.train(experiment, folder)`.

Python binds `ivjax.train` to the package of that name as soon as anything in it is imported. A function
that had been bound to it would then be gone, so the package itself takes the call.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that is called as a function of one of its modules, which is imported at the first call."""

    __called__: tuple[str, str]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Calls the function."""
        return self._function()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the function, for those who ask what the package takes."""
        return inspect.signature(self._function())

    def _function(self) -> Callable[..., Any]:
        module, name = self.__called__
        return getattr(importlib.import_module(module), name)


def called_as(package: str, module: str, name: str) -> None:
    """Makes a call of the package a call of the function `name` of its module."""
    made: Any = sys.modules[package]
    # The way that Python documents to change what a module can do.
    made.__class__ = CallablePackage
    made.__called__ = (module, name)
