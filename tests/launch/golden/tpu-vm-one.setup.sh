#!/bin/bash
# Prepares a TPU VM for tpu-vm-one: gcsfuse, and ivjax with its own Python or in an image.
set -euo pipefail
cd /opt/ivjax/tpu-vm-one

if ! command -v gcsfuse > /dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg > "$key"
  suite="gcsfuse-$(lsb_release -cs) main"
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt $suite" \
    > /etc/apt/sources.list.d/gcsfuse.list
  apt-get -q update && apt-get -q install -y gcsfuse
fi
# The VM's own Python is older than ivjax asks for.
python3 -m pip install -q uv
[ -d venv ] || python3 -m uv venv -q --python 3.12 venv
python3 -m uv pip install -q --reinstall-package ivjax --python venv/bin/python 'ivjax[tpu] @ https://wheels.example.org/ivjax-0.1.0-py3-none-any.whl'
