#!/bin/bash
# Prepares a TPU VM for tpu-vm-slices: gcsfuse, and ivjax with its own Python or in an image.
set -euo pipefail
cd /opt/ivjax/tpu-vm-slices

if ! command -v gcsfuse > /dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg > "$key"
  suite="gcsfuse-$(lsb_release -cs) main"
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt $suite" \
    > /etc/apt/sources.list.d/gcsfuse.list
  apt-get -q update && apt-get -q install -y gcsfuse
fi
gcloud auth configure-docker --quiet europe-docker.pkg.dev || true
docker pull europe-docker.pkg.dev/vision/ivjax/train:1
