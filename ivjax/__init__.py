"""ivjax: the InternVideo family in JAX, for pretraining at scale."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivjax.version import __version__

# A checkout keeps configs/, data_pipelines/ and launch/ beside this folder; a wheel carries them inside it.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.py").is_file() and (_ROOT / "data_pipelines").is_dir():
    __path__.append(str(_ROOT))

if TYPE_CHECKING:
    from ivjax.convert.loading import Loaded, load
    from ivjax.embed.video_features import features

__all__ = ["Loaded", "__version__", "features", "load"]


def __getattr__(name: str) -> Any:
    # `import ivjax` alone must stay cheap: the commands that only read help or clips never load jax.
    if name in ("Loaded", "load"):
        from ivjax.convert import loading

        return getattr(loading, name)
    if name == "features":
        from ivjax.embed.video_features import features

        return features
    raise AttributeError(f"module 'ivjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Else only what is imported already would be listed, and how this module is made.
    return list(__all__)
