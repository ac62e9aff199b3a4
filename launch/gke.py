"""Renders a JobSet for a Kubernetes cluster of Google Cloud."""

import shlex
from collections.abc import Sequence

from ivjax.errors import UserError
from ivjax.launch import xpk
from ivjax.launch.clouds import hosts_per_slice, is_tpu, refuse_cpu
from ivjax.launch.command import Mount
from ivjax.launch.gke_pod import REPLICATED, pod, secret_name, wheel_place
from ivjax.launch.host_entry import STOPPED
from ivjax.launch.render import Placement, Rendered, ShellCommand, indented, quoted
from ivjax.launch.target import Gke


def render(target: Gke, place: Placement) -> Rendered:
    """Renders NAME.jobset.yaml. Its Secret is sent to the cluster and never written to a file."""
    refuse_cpu(place.topology, "GKE")
    if target.client == "xpk":
        return xpk.render(target, place)
    if not (target.image or target.wheel or target.pip):
        raise UserError('a gke target needs image, wheel or pip, as in image = "REGISTRY/ivjax:1"')
    if not is_tpu(place.topology) and place.topology.slices > 1:
        raise UserError(f"{place.topology.name}: GPUs have no slices; write the number of all of them")
    mounts = place.job.mounts(target.mounts, ("gs",))
    file = f"{place.name}.jobset.yaml"
    path = str(place.folder / file)
    steps = [ShellCommand(("gcloud", "storage", "cp", *pair)) for pair in _uploads(target, place, mounts)]
    # Before the JobSet, whose pods would otherwise start without the Secret that they name.
    if target.passed:
        secret = (secret_name(place), target.namespace, target.passed)
        steps.append(ShellCommand(("kubectl", "apply", "-f", "-"), secret))
    steps.append(ShellCommand(("kubectl", "apply", "-f", path)))
    wheel = place.wheel(target) if target.wheel == "build" else None
    return Rendered(
        place.name, {file: _manifest(target, place, mounts, path)}, tuple(steps), wheel, target.passed
    )


def _uploads(target: Gke, place: Placement, mounts: Sequence[Mount]) -> list[tuple[str, str]]:
    """Returns (file, address) of a wheel to upload: it reaches the pods through the bucket of the run."""
    wheel = place.wheel(target)
    return [(str(wheel), f"{wheel_place(place, mounts[0].url)}/{wheel.name}")] if wheel else []


def _manifest(target: Gke, place: Placement, mounts: Sequence[Mount], path: str) -> str:
    name = place.name
    head = f"""# {place.title}
# submit: kubectl apply -f {shlex.quote(path)}    end: kubectl delete -f {shlex.quote(path)}
# watch: kubectl -n {shlex.quote(target.namespace)} get jobset {name}
# logs: kubectl -n {shlex.quote(target.namespace)} logs -f job/{name}-{REPLICATED}-0
"""
    # One file of several documents: one `kubectl delete -f` then removes everything.
    return head + _config_map(target, place) + _frame(target, place) + pod(target, place, mounts)


def _config_map(target: Gke, place: Placement) -> str:
    """Returns a ConfigMap with the user's own config file, which every pod mounts."""
    if place.job.file is None:
        return ""
    return f"""apiVersion: v1
kind: ConfigMap
metadata:
  name: {place.name}-config
  namespace: {quoted(target.namespace)}
data:
  {quoted(place.job.file.name)}: |
{indented(place.job.file.read_text("utf-8"), 4)}
---
"""


def _frame(target: Gke, place: Placement) -> str:
    """Returns everything around the pod: slices, restarts, and what does not count as a failure."""
    hosts = hosts_per_slice(place.topology)
    queue = f"\n  labels:\n    kueue.x-k8s.io/queue-name: {quoted(target.queue)}" if target.queue else ""
    # One slice, one node pool: no pod of another job in between.
    exclusive = (
        "\n  annotations:\n    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"
    )
    return f"""apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {place.name}
  namespace: {quoted(target.namespace)}{queue}{exclusive if is_tpu(place.topology) else ""}
spec:
  failurePolicy:
    maxRestarts: {target.restarts}
    rules:
      # A pod that was evicted, or that saved and left early, fails its Job for this reason alone.
      - name: stoppedEarly
        action: RestartJobSetAndIgnoreMaxRestarts
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: {REPLICATED}
      replicas: {place.topology.slices}
      template:
        spec:
          parallelism: {hosts}
          completions: {hosts}
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onPodConditions:
                  - type: DisruptionTarget
                    status: "True"
              - action: FailJob
                onExitCodes:
                  operator: In
                  values: [{STOPPED}]
"""
