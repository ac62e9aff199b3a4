"""Tells the API reference that folders beside ivjax/ are packages inside it, as in a wheel."""

from typing import Any

import griffe


class Rooms(griffe.Extension):
    """Adds `data_pipelines` of the checkout to the package `ivjax`."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Is called with each package that has been read from its sources."""
        if pkg.path == "ivjax" and "data_pipelines" not in pkg.members:
            pkg.set_member("data_pipelines", loader.load("data_pipelines"))
