#!/usr/bin/env bash
# What launch/tpu_vm.sh runs on every worker of a slice, in the checkout there:
#   launch/tpu_worker.sh install BUCKET        # Python, this package, the bucket as runs/
#   launch/tpu_worker.sh prepare ARGUMENT...   # on one worker: the data of the config in these arguments, into the bucket
#   launch/tpu_worker.sh train ARGUMENT...     # mixup_jax.main with these arguments, then mixup_jax.evaluate
# All may be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
data=runs/.data # in the bucket, so that it is prepared once for all workers

install() {
  local bucket=$1 key=/usr/share/keyrings/cloud.google.asc
  # The Python of the workers' system is too old; uv brings one.
  python3 -m pip install --quiet --user uv
  ~/.local/bin/uv venv --quiet --allow-existing --python=3.12 .venv
  ~/.local/bin/uv pip install --quiet --editable '.[tpu,tensorflow,stream]'
  if ! command -v gcsfuse > /dev/null; then
    curl --silent --show-error --fail https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee $key > /dev/null
    echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
    sudo apt-get -qq update
    sudo apt-get -qq install gcsfuse
  fi
  mkdir -p runs
  # No metadata is cached, so that the workers see each other's files at once.
  mountpoint --quiet runs || gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \
    "$bucket" runs
}

prepare() {
  local argument config=() place=--data_dir=$data
  for argument in "$@"; do
    case $argument in
      --config*) config+=("$argument") ;;
      --data_dir=*) place=$argument ;;
    esac
  done
  .venv/bin/python -m mixup_jax.data "$place" "${config[@]}"
}

train() {
  local argument places=() # what the evaluation is told too
  [[ " $*" == *" --data_dir="* ]] || set -- "$@" "--data_dir=$data"
  for argument in "$@"; do
    case $argument in
      --workdir=* | --data_dir=*) places+=("$argument") ;;
    esac
  done
  # If an earlier attempt still runs here, for example after a lost connection, wait for its end.
  exec 9> .running
  flock 9
  .venv/bin/python -m mixup_jax.main --distributed "$@"
  .venv/bin/python -m mixup_jax.evaluate --distributed "${places[@]}"
}

case ${1:-} in
  install | prepare | train) "$@" ;;
  *)
    echo "error: unknown command ${1:-}; expected install, prepare or train" >&2
    exit 2
    ;;
esac
