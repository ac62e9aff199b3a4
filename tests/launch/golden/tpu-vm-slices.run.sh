#!/bin/bash
# tpu-vm-slices: train stage1_1b data.path=gs://clips-eu/shards/train mesh.slices=2 --workdir gs://clips-eu/runs/1b
# on v5p:4x4x4 x2 slices
set -euo pipefail
cd /opt/ivjax/tpu-vm-slices

mkdir -p /mnt/shards
mountpoint -q /mnt/shards || gcsfuse --implicit-dirs --rename-dir-limit=200000 --only-dir=shards clips-eu /mnt/shards
mkdir -p /mnt/gs/clips-eu
mountpoint -q /mnt/gs/clips-eu || gcsfuse --implicit-dirs --rename-dir-limit=200000 clips-eu /mnt/gs/clips-eu
docker rm -f tpu-vm-slices 2> /dev/null || true
exec docker run --rm --init --name tpu-vm-slices --privileged --net=host --ipc=host \
  --stop-timeout=300 --env-file=env --volume=/opt/ivjax/tpu-vm-slices:/opt/ivjax/tpu-vm-slices --volume=/mnt/shards:/mnt/shards --volume=/mnt/gs/clips-eu:/mnt/gs/clips-eu \
  europe-docker.pkg.dev/vision/ivjax/train:1 \
  ivjax launch worker train stage1_1b data.path=/mnt/shards/train mesh.slices=2 --workdir /mnt/gs/clips-eu/runs/1b
