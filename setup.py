"""Packaging: the folders beside ivjax/ are installed inside it: no generic top-level names."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
README = ROOT / "README.md"
FOLDERS = [name for name in ("configs", "data_pipelines", "launch") if (ROOT / name).is_dir()]

version = re.search(r'^__version__ = "(.+)"$', (ROOT / "ivjax/version.py").read_text("utf-8"), re.M).group(1)

packages = ["ivjax"] + [f"ivjax.{name}" for name in find_packages(str(ROOT / "ivjax"))]
for folder in FOLDERS:
    packages.append(f"ivjax.{folder}")
    packages += [f"ivjax.{folder}.{name}" for name in find_packages(str(ROOT / folder))]

setup(
    name="ivjax",
    version=version,
    description="The InternVideo family in JAX, for pretraining at scale",
    long_description=README.read_text("utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=packages,
    package_dir={f"ivjax.{folder}": folder for folder in FOLDERS},
    package_data={"ivjax": ["py.typed", "report/*.css", "report/*.js"], "ivjax.launch": ["*"]},
    entry_points={"console_scripts": ["ivjax = ivjax.cli:main"]},
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "etils[epath]>=1.9",
        "fsspec",
        "grain>=0.2.18",
        "einops>=0.8",
        "sentencepiece>=0.2.1",
        "numpy>=2.0",
        "scipy>=1.12",
        "av>=14",
        "array_record>=0.8",
        "pyarrow>=15",
        "pillow>=10",
        "matplotlib>=3.8",
        "tensorboardX>=2.6",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda12]"],
        "plan": ["jax[tpu]"],  # its libtpu compiles for TPUs that are not there
        "beam": ["apache-beam"],
        "references": ["torch", "transformers>=5"],  # what some slow tests compare with
        "tfds": ["tensorflow-datasets>=4.9.10"],  # the TFDS builder, and reading what it made
        "wandb": ["wandb>=0.31"],  # numbers of runs in Weights & Biases
        "mlflow": ["mlflow-skinny>=3"],  # the same in MLflow
        "gcs": ["gcsfs>=2026.9"],  # run folders and corpora in gs://
        "tokenizers": ["tokenizers>=0.21"],  # tokenizer.json files of language models
        "test": ["pytest", "pytest-xdist", "safetensors", "tokenizers>=0.21"],
        "lint": ["ruff", "mypy"],
        # The documentation site; ruff lays out the signatures of its API reference.
        "docs": ["mkdocs>=1.6", "mkdocs-material>=9.7", "mkdocstrings[python]>=1.0", "ruff"],
        "notebooks": ["nbclient", "ipykernel"],  # to run docs/notebooks as Jupyter does
    },
)
