#!/usr/bin/env bash
# One run on all workers of a Cloud TPU slice: launch/tpu_vm.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat << 'HELP'
Creates a Cloud TPU slice, trains and evaluates a run on all its workers, fetches the results, deletes the slice.

  launch/tpu_vm.sh create  --name=NAME --zone=ZONE [--type=TYPE] [--spot]        # asks for a slice, and waits for it
  launch/tpu_vm.sh install --name=NAME --zone=ZONE --bucket=BUCKET               # this commit, on every worker
  launch/tpu_vm.sh run     --name=NAME --zone=ZONE --bucket=BUCKET ... -- ARGUMENTS OF mixup_jax.main
  launch/tpu_vm.sh fetch   --bucket=BUCKET [--to=DIR] [--checkpoints]
  launch/tpu_vm.sh delete  --name=NAME --zone=ZONE

`run` does all that comes before it, so it is enough; one worker prepares the data of the config, for all, in the
bucket. When the slice is preempted it asks for another one and
continues there; started again, it continues too.

options:
  --name=NAME      of the slice, and of the queued resource that asks for it
  --zone=ZONE      such as us-west4-a
  --project=ID     without it, gcloud's own
  --type=TYPE      accelerator type (default: v5litepod-16, which is four workers of four chips)
  --runtime=V      software of the workers (default: the one for TYPE)
  --spot           spot capacity: cheaper, and taken away at any time
  --bucket=BUCKET  Cloud Storage bucket, without gs://, which every worker sees as runs/ of the checkout
  --retries=N      further attempts of a run that failed on a slice that is there (default: 3)
  --to=DIR         where results are fetched to (default: runs)
  --checkpoints    fetch checkpoints too
  --dry-run        print the commands, as if there were no slice yet, and run none

example:
  launch/tpu_vm.sh run --name=mixup --zone=us-west4-a --spot --bucket=my-runs -- \
      --config=configs/fashion_mnist.py:mixup --workdir=runs/fm-mixup-0
HELP
}

fail() {
  echo "error: $1" >&2
  exit "${2:-2}"
}

# Prints a command so that a shell reads it back as it is.
quoted() {
  local line
  printf -v line '%q ' "$@"
  echo "${line% }"
}

# Runs a command, or prints it.
try() {
  if [[ -n $dry_run ]]; then
    quoted "$@"
  else
    "$@"
  fi
}

# The state of the queued resource; nothing if there is none.
state() {
  if [[ -n $dry_run ]]; then
    echo "$assumed"
  else
    gcloud compute tpus queued-resources list "${place[@]}" --filter="name~/$name\$" --format='value(state.state)'
  fi
}

delete() {
  try gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet
}

# Waits until the slice exists; a preempted slice cannot be started again, so another one is requested.
create() {
  local now
  now=$(state)
  while [[ $now != ACTIVE ]]; do
    case $now in
      SUSPENDED | FAILED)
        echo "$name: $now; asking for another slice" >&2
        delete
        now=
        ;;
    esac
    if [[ -z $now ]]; then
      try gcloud compute tpus queued-resources create "$name" --node-id="$name" "${place[@]}" \
        --accelerator-type="$type" --runtime-version="$runtime" ${spot:+--spot}
      assumed=ACTIVE
    else
      echo "$name: $now; looking again in $pause seconds" >&2
      sleep "$pause"
    fi
    now=$(state)
  done
}

# Runs a command on all workers, or on one.
on_workers() {
  try gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$1" --command="$2"
}

# Copies this commit to every worker, and runs launch/tpu_worker.sh there.
install() {
  local archive=/tmp/mixup_jax.tar.gz
  try git archive --format=tar.gz --output="$archive" HEAD &&
    try gcloud compute tpus tpu-vm scp "$archive" "$name:mixup_jax.tar.gz" "${place[@]}" --worker=all &&
    on_workers all "mkdir -p mixup_jax && tar -xzf mixup_jax.tar.gz -C mixup_jax && $(
      quoted mixup_jax/launch/tpu_worker.sh install "$bucket"
    )"
}

prepare() {
  on_workers 0 "$(quoted mixup_jax/launch/tpu_worker.sh prepare "${arguments[@]}")"
}

train() {
  on_workers all "$(quoted mixup_jax/launch/tpu_worker.sh train "${arguments[@]}")"
}

# Trains and evaluates on a slice that is there; tries again where that may help.
run() {
  local code attempt=0
  while true; do
    create
    code=0
    { install && prepare && train; } || code=$?
    case $code in
      0) return ;;
      2) exit 2 ;; # something given is wrong, and will be the next time
    esac
    sleep "$pause" # a preemption does not show at once
    if [[ $(state) == ACTIVE ]]; then
      attempt=$((attempt + 1))
      ((attempt <= retries)) || fail "exit code $code after $retries further attempts; expected a run that ends" "$code"
      echo "$name: exit code $code; further attempt $attempt of $retries" >&2
    fi
  done
}

fetch() {
  local exclude='.*[.]data/.*' # the prepared data sets
  [[ -n $checkpoints ]] || exclude+='|.*/checkpoints/.*'
  try mkdir -p "$to"
  try gcloud storage rsync --recursive --exclude="$exclude" "gs://$bucket" "$to"
}

# What belongs to which kind of slice: https://cloud.google.com/tpu/docs/runtimes
default_runtime() {
  case $type in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

command=${1:---help}
name='' zone='' project='' type=v5litepod-16 runtime='' spot='' bucket='' retries=3 to=runs checkpoints='' dry_run=''
arguments=() # of mixup_jax.main
pause=${PAUSE:-60} # seconds
assumed='' # the state of the slice in a dry run
shift || true
while (($# > 0)); do
  case $1 in
    --name=?*) name=${1#*=} ;;
    --zone=?*) zone=${1#*=} ;;
    --project=?*) project=${1#*=} ;;
    --type=?*) type=${1#*=} ;;
    --runtime=?*) runtime=${1#*=} ;;
    --spot) spot=yes ;;
    --bucket=?*) bucket=${1#*=} ;;
    --retries=?*) retries=${1#*=} ;;
    --to=?*) to=${1#*=} ;;
    --checkpoints) checkpoints=yes ;;
    --dry-run) dry_run=yes ;;
    --help) usage && exit ;;
    --) shift && arguments=("$@") && break ;;
    *) fail "unknown argument $1; expected an option of launch/tpu_vm.sh --help, and those of mixup_jax.main after --" ;;
  esac
  shift
done
place=(--zone="$zone" ${project:+--project="$project"})
runtime=${runtime:-$(default_runtime)}

require() {
  local option
  for option in "$@"; do
    [[ -n ${!option} ]] || fail "--$option is missing; expected --$option=VALUE for $command"
  done
}

case $command in
  create) require name zone && create ;;
  install) require name zone bucket && install ;;
  run)
    require name zone bucket
    [[ " ${arguments[*]}" == *" --workdir=runs/"?* ]] ||
      fail "--workdir=runs/NAME is missing after --; expected it, since runs/ is the bucket"
    run
    ;;
  fetch) require bucket && fetch ;;
  delete) require name zone && delete ;;
  --help) usage ;;
  *) fail "unknown command $command; expected create, install, run, fetch or delete" ;;
esac
