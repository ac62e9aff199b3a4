#!/bin/bash
# gke-xpk: train stage1_1b --workdir gs://clips-eu/runs/1b
# on v6e:16x16 x2 slices
# watch: xpk workload list --cluster=pods --project=vision --zone=us-east5-a
# end: xpk workload delete --workload=gke-xpk --cluster=pods --project=vision --zone=us-east5-a
set -euo pipefail

where=(--cluster=pods --project=vision --zone=us-east5-a)
if ! xpk storage list "${where[@]}" | grep -qw clips-eu; then
  xpk storage attach clips-eu "${where[@]}" --type=gcsfuse \
    --bucket=clips-eu --mount-point=/mnt/gs/clips-eu \
    --readonly=false --auto-mount=false --mount-options=implicit-dirs,rename-dir-limit=200000
fi
xpk workload create "${where[@]}" \
  --workload=gke-xpk \
  --tpu-type=v6e-16x16 \
  --num-slices=2 \
  --docker-image=registry/ivjax:1 \
  --max-restarts=20 \
  --restart-on-exit-codes=75 \
  --storage=clips-eu \
  --env=HTTPS_PROXY="${HTTPS_PROXY:?is not set in this shell}" \
  --command='exec ivjax launch worker train stage1_1b --workdir /mnt/gs/clips-eu/runs/1b'
