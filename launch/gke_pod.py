"""Renders the pod of a JobSet: its nodes, its command, and the buckets that it mounts."""

import shlex
from collections.abc import Sequence

from ivjax.launch.clouds import chips_per_host, gke_accelerator, is_tpu, shape_text
from ivjax.launch.command import PORT, Mount
from ivjax.launch.render import Placement, indented, quoted
from ivjax.launch.target import Gke

REPLICATED = "slice"
"""The replicated job; the first pod of the first one is NAME-slice-0-0.NAME in the cluster's DNS."""

_CONFIGS = "/etc/ivjax"
# implicit-dirs shows folders that were uploaded without an entry of their own; tpu_vm explains the limit.
_MOUNT_OPTIONS = "implicit-dirs,rename-dir-limit=200000"


def pod(target: Gke, place: Placement, mounts: Sequence[Mount]) -> str:
    """Returns the pod's template, indented as in the JobSet."""
    lines = ["template:"]
    if mounts:
        lines += ["  metadata:", "    annotations:", '      gke-gcsfuse/volumes: "true"']
    lines += ["  spec:", indented("\n".join(_spec(target, place)), 4)]
    lines += [
        "    containers:",
        "      - name: ivjax",
        indented("\n".join(_container(target, place, mounts)), 8),
    ]
    lines += ["    volumes:", indented("\n".join(_volumes(place, mounts)), 6)]
    return indented("\n".join(lines), 10) + "\n"


def secret_name(place: Placement) -> str:
    """Returns the name of the Secret with the variables of the launching shell."""
    return f"{place.name}-env"


def wheel_place(place: Placement, bucket: str) -> str:
    """Returns the folder of a bucket, by address or as mounted, that carries a wheel to the pods."""
    return f"{bucket}/ivjax-launch/{place.name}"


def _spec(target: Gke, place: Placement) -> list[str]:
    nodes = {"cloud.google.com/gke-accelerator": target.accelerator or gke_accelerator(place.topology)}
    if is_tpu(place.topology):
        nodes = {
            "cloud.google.com/gke-tpu-accelerator": gke_accelerator(place.topology),
            "cloud.google.com/gke-tpu-topology": shape_text(place.topology),
        }
    nodes |= {"cloud.google.com/gke-spot": "true"} if target.spot else {}
    # The JobSet restarts all pods together: one restarted pod cannot join a job that has already begun.
    lines = ["restartPolicy: Never", f"terminationGracePeriodSeconds: {target.grace}"]
    lines += [f"serviceAccountName: {quoted(target.service_account)}"] if target.service_account else []
    lines += [f"priorityClassName: {quoted(target.priority)}"] if target.priority else []
    lines += ["nodeSelector:", *(f"  {key}: {quoted(value)}" for key, value in nodes.items())]
    if target.spot:
        lines += ["tolerations:", "  - key: cloud.google.com/gke-spot", "    operator: Exists"]
    return lines


def _container(target: Gke, place: Placement, mounts: Sequence[Mount]) -> list[str]:
    resource = "google.com/tpu" if is_tpu(place.topology) else "nvidia.com/gpu"
    lines = [
        f"image: {quoted(target.image or target.base_image)}",
        "command:",
        "  - bash",
        # -u and -e: a missing variable or a failed pip must not start a training run.
        "  - -euc",
        "  - |",
    ]
    lines += [indented("\n".join(_script(target, place, mounts)), 4)]
    variables = [
        f"  - name: {key}\n    value: {quoted(value)}" for key, value in _plain(target, place).items()
    ]
    source = f"valueFrom:\n      secretKeyRef:\n        name: {secret_name(place)}\n        key: "
    variables += [f"  - name: {key}\n    {source}{key}" for key in target.passed]
    lines += ["env:", *variables] if variables else []
    lines += ["resources:", "  limits:", f"    {resource}: {chips_per_host(place.topology)}", "volumeMounts:"]
    # A pod has 64 MB of /dev/shm by default, less than a batch of 64 clips.
    folders = {"shm": "/dev/shm"} | {name: mount.path for name, mount in _named(mounts)}
    folders |= {"config": _CONFIGS} if place.job.file else {}
    return [*lines, *(f"  - name: {name}\n    mountPath: {quoted(path)}" for name, path in folders.items())]


def _plain(target: Gke, place: Placement) -> dict[str, str]:
    """Returns plain variables. GPUs are listed, because jax would otherwise take one for each pod."""
    gpus = {"JAX_LOCAL_DEVICE_IDS": ",".join(map(str, range(chips_per_host(place.topology))))}
    return target.plain if is_tpu(place.topology) else gpus | target.plain


def _script(target: Gke, place: Placement, mounts: Sequence[Mount]) -> list[str]:
    needed = place.requirement(target, wheel_place(place, mounts[0].path)) if mounts else target.pip
    lines = [f"python -m pip install --quiet {shlex.quote(needed)}"] if needed else []
    lines += target.setup.splitlines()
    config = f"{_CONFIGS}/{place.job.file.name}" if place.job.file else None
    # On TPUs GKE tells jax who the others are. On GPUs jax could look up the pods itself, but only with
    # another package and with the right to list pods.
    flags = "" if is_tpu(place.topology) or place.topology.hosts == 1 else _coordinates(place)
    # exec: Kubernetes sends SIGTERM to process 1 only, and a shell would not pass it on.
    return [*lines, f"exec {place.job.line(mounts, config, flags)}"]


def _coordinates(place: Placement) -> str:
    first = f"{place.name}-{REPLICATED}-0-0.{place.name}"
    return (
        # Kubernetes numbers the pods of an indexed Job, and a job on GPUs has one such Job.
        f'--coordinator {first}:{PORT} --processes {place.topology.hosts} --process "$JOB_COMPLETION_INDEX"'
    )


def _named(mounts: Sequence[Mount]) -> list[tuple[str, Mount]]:
    return [(f"bucket-{number}", mount) for number, mount in enumerate(mounts)]


def _volumes(place: Placement, mounts: Sequence[Mount]) -> list[str]:
    """Returns the volumes: shared memory for the decode workers, the buckets, the config file."""
    lines = ["- name: shm", "  emptyDir:", "    medium: Memory"]
    for name, mount in _named(mounts):
        options = _MOUNT_OPTIONS + (f",only-dir={mount.folder}" if mount.folder else "")
        lines += [
            f"- name: {name}",
            "  csi:",
            "    driver: gcsfuse.csi.storage.gke.io",
            "    volumeAttributes:",
        ]
        lines += [f"      bucketName: {mount.bucket}", f"      mountOptions: {quoted(options)}"]
    if place.job.file:
        lines += ["- name: config", "  configMap:", f"    name: {place.name}-config"]
    return lines
