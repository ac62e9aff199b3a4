#!/bin/bash
# tpu-vm-one: train stage1_1b --workdir gs://clips-eu/runs/1b
# on v5e:4x4
set -euo pipefail
cd /opt/ivjax/tpu-vm-one

mkdir -p /mnt/gs/clips-eu
mountpoint -q /mnt/gs/clips-eu || gcsfuse --implicit-dirs --rename-dir-limit=200000 clips-eu /mnt/gs/clips-eu
export PATH=/opt/ivjax/tpu-vm-one/venv/bin:$PATH
exec ivjax launch worker train stage1_1b --workdir /mnt/gs/clips-eu/runs/1b
