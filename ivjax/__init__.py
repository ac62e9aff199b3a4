"""ivjax: the InternVideo family in JAX, for pretraining at scale.

What `import ivjax` offers is listed in docs/api.md. It is imported where it is used for the first time.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivjax.version import __version__

# A checkout keeps configs/, data_pipelines/ and launch/ beside this folder; a wheel carries them inside it.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.py").is_file() and (_ROOT / "data_pipelines").is_dir():
    __path__.append(str(_ROOT))

if TYPE_CHECKING:
    from ivjax import experiment
    from ivjax.convert.loading import Loaded, load
    from ivjax.convert.presets import presets
    from ivjax.embed.embedding_job import embed
    from ivjax.embed.video_features import features
    from ivjax.generate.chat import chat
    from ivjax.ops import hico
    from ivjax.plan.planning import plan
    from ivjax.train.loop import train

__all__ = [
    "Loaded",
    "__version__",
    "chat",
    "embed",
    "experiment",
    "features",
    "hico",
    "load",
    "plan",
    "presets",
    "train",
]


def __getattr__(name: str) -> Any:
    # `import ivjax` alone must stay cheap: the commands that only read help or clips never load jax.
    if name in ("Loaded", "load"):
        from ivjax.convert import loading

        return getattr(loading, name)
    if name == "features":
        from ivjax.embed.video_features import features

        return features
    if name == "chat":
        from ivjax.generate.chat import chat

        return chat
    if name == "presets":
        from ivjax.convert.presets import presets

        return presets
    if name == "hico":
        from ivjax.ops import hico

        return hico
    if name in ("embed", "experiment", "plan", "train"):
        import importlib

        # Packages. `from ivjax import` would ask here once more, without end.
        return importlib.import_module(f"ivjax.{name}")
    raise AttributeError(f"module 'ivjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Else only what is imported already would be listed, and how this module is made.
    return list(__all__)
