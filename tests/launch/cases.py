"""Launches whose rendered files are kept as golden text.

After a deliberate change, write the texts anew:
    python -c "from tests.launch.cases import write_texts; write_texts()"
"""

from pathlib import Path

from ivjax.launch.command import LaunchedCommand
from ivjax.launch.dispatch import render
from ivjax.launch.render import Rendered
from ivjax.launch.target import KINDS

GOLDEN = Path(__file__).parent / "golden"
HERE = Path("jobs")


def train(workdir: str, *words: str, config: str = "stage1_1b") -> LaunchedCommand:
    """`ivjax train` of a shipped config."""
    return LaunchedCommand(("train", config, *words, "--workdir", workdir), config, words)


WHEEL = "@ https://wheels.example.org/ivjax-0.1.0-py3-none-any.whl"
WHEEL_TPU, WHEEL_CUDA = f"ivjax[tpu] {WHEEL}", f"ivjax[cuda] {WHEEL}"
BUCKET = "gs://clips-eu/runs/1b"
CLOUD = {"project": "vision", "zone": "us-east5-a"}
CASES = {
    "slurm-gpus": (
        "slurm",
        {
            "topology": "h200:64",
            "partition": "gpu",
            "cpus": 96,
            "grace": 120,
            "setup": "source /shared/venv/bin/activate",
            "env": {"NCCL_DEBUG": "WARN", "HTTPS_PROXY": "$HTTPS_PROXY"},
        },
        train("/shared/runs/1b", "mesh.fsdp=8", "data.path=/shared/shards, new"),
    ),
    "slurm-image": (
        "slurm",
        {"topology": "h100:4", "image": "registry/ivjax:1", "container_mounts": "/shared:/shared"},
        train("/shared/runs/1b"),
    ),
    "tpu-vm-one": (
        "tpu-vm",
        {"topology": "v5e:4x4", "pip": WHEEL_TPU, **CLOUD, "env": {"HTTPS_PROXY": "$HTTPS_PROXY"}},
        train(BUCKET),
    ),
    "tpu-vm-slices": (
        "tpu-vm",
        {
            "topology": "v5p:4x4x4",
            "slices": 2,
            "spot": True,
            "image": "europe-docker.pkg.dev/vision/ivjax/train:1",
            "mounts": {"/mnt/shards": "gs://clips-eu/shards"},
            "env": {"MODE": "a b"},
            **CLOUD,
        },
        train(BUCKET, "data.path=gs://clips-eu/shards/train", "mesh.slices=2"),
    ),
    "gke-one": ("gke", {"topology": "v5e:16x16", "image": "registry/ivjax:1"}, train(BUCKET)),
    "gke-slices": (
        "gke",
        {
            "topology": "v5p:4x4x8",
            "slices": 4,
            "pip": WHEEL_TPU,
            "queue": "multislice-queue",
            "service_account": "trainer",
            "spot": True,
            "env": {"LIBTPU_INIT_ARGS": "--a=1", "HTTPS_PROXY": "$HTTPS_PROXY"},
            "mounts": {"/mnt/shards": "gs://clips-us/shards"},
        },
        train(BUCKET, "mesh.slices=4"),
    ),
    "gke-gpus": ("gke", {"topology": "h200:16", "image": "registry/ivjax:1"}, train(BUCKET)),
    "gke-xpk": (
        "gke",
        {
            "topology": "v6e:16x16",
            "slices": 2,
            "client": "xpk",
            "cluster": "pods",
            "image": "registry/ivjax:1",
            "env": {"HTTPS_PROXY": "$HTTPS_PROXY"},
            **CLOUD,
        },
        train(BUCKET),
    ),
    "skypilot-gpus": (
        "skypilot",
        {
            "topology": "h200:16",
            "pip": WHEEL_CUDA,
            "spot": True,
            "env": {"HTTPS_PROXY": "$HTTPS_PROXY"},
        },
        train(BUCKET, "data.path=s3://clips-us/shards"),
    ),
    "skypilot-tpu": ("skypilot", {"topology": "v6e:4x4", "pip": WHEEL_TPU}, train(BUCKET)),
}


def rendered(case: str) -> Rendered:
    """The files of a case."""
    kind, values, job = CASES[case]
    return render(kind, KINDS[kind](**values, name=case), job)[0]


def write_texts() -> None:
    """Writes all golden texts."""
    for case in CASES:
        for name, text in rendered(case).files.items():
            (GOLDEN / name).write_text(text, encoding="utf-8")
