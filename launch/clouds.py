"""Names of accelerators in each cloud, and how many a machine has."""

import math

from ivjax.errors import UserError
from ivjax.plan.topology import Topology

# cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus, .../docs/how-to/gpus
_GKE = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
    "tpu7x": "tpu7x",
    "a100": "nvidia-a100-80gb",
    "h100": "nvidia-h100-80gb",
    "h200": "nvidia-h200-141gb",
}
# tpu7x is missing on purpose: it is offered through Kubernetes only.
# cloud.google.com/tpu/docs/runtimes: prefix of the accelerator type, and the software of a TPU VM
_TPU_VM = {
    "v4": ("v4", "tpu-ubuntu2204-base"),
    "v5e": ("v5litepod", "v2-alpha-tpuv5-lite"),
    "v5p": ("v5p", "v2-alpha-tpuv5"),
    "v6e": ("v6e", "v2-alpha-tpuv6e"),
}
_COUNTED_IN_CORES = ("v4", "v5p")  # two cores a chip, both in the type's number
# The 80 GB A100 has a name of its own; plain A100 is the 40 GB card.
_SKYPILOT = {"a100": "A100-80GB", "h100": "H100", "h200": "H200"}


def is_tpu(topology: Topology) -> bool:
    """Whether a topology is made of TPUs."""
    return topology.chip.platform == "tpu"


def extra(topology: Topology) -> str:
    """Returns the extra of the ivjax package that a topology needs."""
    return "tpu" if is_tpu(topology) else "cuda"


def hosts_per_slice(topology: Topology) -> int:
    """Returns the machines of one slice, which have one process each."""
    return topology.hosts // topology.slices


def chips_per_host(topology: Topology) -> int:
    """Returns the chips or GPUs of one machine, and so of one process."""
    return math.prod(topology.shape) // hosts_per_slice(topology)


def shape_text(topology: Topology) -> str:
    """Returns the shape of a slice as text, such as 4x4x8."""
    return "x".join(map(str, topology.shape))


def refuse_cpu(topology: Topology, where: str) -> None:
    """Raises if the topology has no accelerators."""
    if topology.chip.platform == "cpu":
        raise UserError(
            f"{topology.name} is for `ivjax plan`; {where} needs TPUs or GPUs, such as v5e:4x4 or h100:8"
        )


def gke_accelerator(topology: Topology) -> str:
    """Returns the node label of GKE."""
    return _GKE[topology.chip.name]


def accelerator_type(topology: Topology) -> str:
    """Returns gcloud's name of a slice: v5litepod-256, or v5p-128 for 64 chips of two cores."""
    cores = 2 if topology.chip.name in _COUNTED_IN_CORES else 1
    return f"{_tpu_vm(topology)[0]}-{math.prod(topology.shape) * cores}"


def runtime_version(topology: Topology) -> str:
    """Returns the usual software version of a TPU VM."""
    return _tpu_vm(topology)[1]


def _tpu_vm(topology: Topology) -> tuple[str, str]:
    if topology.chip.name not in _TPU_VM:
        raise UserError(f"{topology.chip.name} has no TPU VMs; use `ivjax launch gke`")
    return _TPU_VM[topology.chip.name]


def xpk_type(topology: Topology) -> str:
    """Returns xpk's name of a slice, by its shape: v5p-4x4x8."""
    # By shape, because xpk would have to choose a shape for a number of chips.
    prefix = _TPU_VM.get(topology.chip.name, (topology.chip.name,))[0]
    return f"{prefix}-{shape_text(topology)}"


def skypilot_accelerators(topology: Topology) -> str:
    """Returns SkyPilot's name of the accelerators of one machine, or of a whole TPU slice."""
    if is_tpu(topology):
        return f"tpu-{accelerator_type(topology)}"
    return f"{_SKYPILOT[topology.chip.name]}:{chips_per_host(topology)}"
