#!/bin/bash
# tpu-vm-one: train stage1_1b --workdir gs://clips-eu/runs/1b
# on v5e:4x4
# bash tpu-vm-one.sh up|create|setup|run|watch|logs|status|stop|delete
set -euo pipefail
cd "$(dirname "$0")"

NAME=tpu-vm-one
NODES=(tpu-vm-one)
WHERE=(--zone=us-east5-a --project=vision)
KIND=tpu-vm
STATE=state
READY=READY
CREATE=(--accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --scopes=https://www.googleapis.com/auth/cloud-platform)
DELETE=(--quiet)
FILES=(tpu-vm-one.setup.sh tpu-vm-one.run.sh tpu-vm-one.service)
PASSED=(HTTPS_PROXY)
PLAIN=()
DELETE_WHEN_DONE=true

tpus() {  # COMMAND FLAGS...: of the queued resource, or of the VM itself
  gcloud compute tpus "$KIND" "$1" "$NAME" "${WHERE[@]}" "${@:2}"
}

each() {  # FUNCTION ARGUMENTS...: for all slices at once; fails if one does
  local node children=() status=0
  for node in "${NODES[@]}"; do
    "$@" "$node" &
    children+=($!)
  done
  for child in "${children[@]}"; do wait "$child" || status=$?; done
  return "$status"
}

on() { gcloud compute tpus tpu-vm ssh "$2" "${WHERE[@]}" --worker=all --command="$1"; }

send() { gcloud compute tpus tpu-vm scp "${FILES[@]}" "$1/env" "$2:" "${WHERE[@]}" --worker=all; }

state() { tpus describe --format="value($STATE)" 2> /dev/null || true; }

create() { tpus create "${CREATE[@]}"; }

delete() { tpus delete "${DELETE[@]}"; }

ensure() {  # until the TPUs are there; after a preemption they are made anew
  local now
  while true; do
    now=$(state)
    case "$now" in
      "$READY") return ;;
      "") create ;;
      FAILED | SUSPENDED | PREEMPTED | TERMINATED | STOPPED) delete ;;
      *) echo "$NAME: $now"; sleep 30 ;;
    esac
  done
}

setup() {
  local folder=/opt/ivjax/$NAME secret status=0 names=() file quoted
  for file in "${FILES[@]}" env; do names+=("$(basename "$file")"); done
  printf -v quoted ' %q' "${names[@]}"
  secret=$(mktemp -d)  # readable by its owner alone
  { (environment) > "$secret/env" && each send "$secret"; } || status=$?
  rm -r "$secret"
  [ "$status" -eq 0 ] || return "$status"
  each on "sudo mkdir -p $folder && chmod 600 env && sudo mv$quoted $folder/ &&
    sudo cp $folder/$NAME.service /etc/systemd/system/ && sudo bash $folder/$NAME.setup.sh"
}

environment() {
  local name
  [ "${#PLAIN[@]}" -eq 0 ] || printf '%s\n' "${PLAIN[@]}"
  for name in ${PASSED[@]+"${PASSED[@]}"}; do
    printf '%s=%s\n' "$name" "${!name:?is not set in this shell}"
  done
}

run() {  # leaves one that already runs alone
  each on "sudo systemctl daemon-reload && { sudo systemctl reset-failed $NAME || true; } 2> /dev/null &&
    sudo systemctl enable --now $NAME"
}

stop() { each on "sudo systemctl disable --now $NAME"; }

status() { echo "$NAME: $(state)"; each on "hostname && systemctl is-active $NAME || true"; }

logs() {  # [NODE [WORKER]]
  gcloud compute tpus tpu-vm ssh "${1:-${NODES[0]}}" "${WHERE[@]}" --worker="${2:-0}" \
    --command="sudo journalctl --unit=$NAME --output=cat --lines=200 --follow"
}

service() {
  gcloud compute tpus tpu-vm ssh "${NODES[0]}" "${WHERE[@]}" --worker=0 \
    --command="systemctl is-active $NAME" 2> /dev/null || true
}

watch() {  # until the run is done (0), has failed (1), or the TPUs are gone (3)
  local missed=0
  while [ "$missed" -lt 3 ]; do
    if [ "$(state)" = "$READY" ]; then
      missed=0
      case "$(service)" in
        inactive) return 0 ;;
        failed) return 1 ;;
      esac
    else
      missed=$((missed + 1))
    fi
    sleep 60
  done
  return 3
}

up() {
  local outcome
  while true; do
    ensure
    outcome=0
    { setup && run && watch; } || outcome=$?
    if [ "$outcome" -eq 0 ]; then
      echo "$NAME: done"
      if [ "$DELETE_WHEN_DONE" = true ]; then delete; fi
      return 0
    elif [ "$outcome" -ne 3 ] && [ "$(state)" = "$READY" ]; then
      echo "$NAME: failed; see: bash $0 logs, and end the bill with: bash $0 delete" >&2
      return 1
    fi
    echo "$NAME: the TPUs are gone; asking for them again"
  done
}

case "${1:-}" in
  up | create | setup | run | watch | logs | status | stop | delete) "$@" ;;
  *) grep '^# bash' "$0" >&2; exit 2 ;;
esac
