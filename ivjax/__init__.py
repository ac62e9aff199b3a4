"""ivjax: the InternVideo family in JAX, for pretraining at scale."""

from pathlib import Path

__version__ = "0.1.0"

# A checkout keeps configs/, data_pipelines/ and launch/ beside this folder; a wheel carries them inside it.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.py").is_file() and (_ROOT / "data_pipelines").is_dir():
    __path__.append(str(_ROOT))
