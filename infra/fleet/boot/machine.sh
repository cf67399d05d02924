# What every machine of the fleet does at its first boot. The rendered user data is: #!/bin/bash, variables, this, the role.
# Knows no role; every secret is read from Parameter Store here, because user data can be read by whoever may describe it.
# shellcheck shell=bash
set -euo pipefail
umask 077

say() { printf 'boot: %s\n' "$*"; }

# again SECONDS COMMAND…: repeats until it succeeds; what it needs (network, image, name) may come later than this machine.
again() {
  local seconds=$1 started=$SECONDS
  shift
  until "$@"; do
    if ((SECONDS - started > seconds)); then
      say "gave up after $seconds s: $1 ${2:-}" >&2
      return 1
    fi
    sleep 5
  done
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  again 300 apt-get -q update
  local docker_command=()
  [ -z "$(apt-cache show docker-cli 2>/dev/null)" ] || docker_command=(docker-cli)
  again 300 apt-get -q install -y --no-install-recommends docker.io "${docker_command[@]}" awscli ca-certificates curl
  again 60 docker info >/dev/null
}

# mount_data DIRECTORY: on the volume DATA_VOLUME if one is named, so that a new machine finds the old one's data.
mount_data() {
  mkdir -p "$1"
  [ -n "${DATA_VOLUME:-}" ] || return 0
  local device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${DATA_VOLUME/-/}
  again 600 test -e "$device"
  blkid "$device" >/dev/null || mkfs.ext4 -q "$device"
  grep -q " $1 " /etc/fstab || printf '%s %s ext4 defaults,nofail 0 2\n' "$device" "$1" >>/etc/fstab
  mountpoint -q "$1" || mount "$1"
}

# write_environment FILE: NAME=VALUE for each parameter under PARAMETER_PATH, as docker --env-file reads it.
write_environment() {
  mkdir -p /etc/taskservice
  again 300 read_parameters >"$1"
}

read_parameters() {
  local answer
  answer=$(aws ssm get-parameters-by-path --region "$AWS_REGION" --path "$PARAMETER_PATH" --with-decryption \
    --query 'Parameters[].[Name,Value]' --output text) || return 1
  [ -n "$answer" ] && [ "$answer" != None ] || return 1
  printf '%s\n' "$answer" | while IFS=$'\t' read -r name value; do printf '%s=%s\n' "${name##*/}" "$value"; done
}

pull() {
  case "$1" in
    *.dkr.ecr.*) again 3600 pull_from_ecr "$1" ;;
    *) docker image inspect "$1" >/dev/null 2>&1 || again 3600 docker pull -q "$1" ;;
  esac
}

pull_from_ecr() {
  aws ecr get-login-password --region "$AWS_REGION" | docker login --username AWS --password-stdin "${1%%/*}" >/dev/null &&
    docker pull -q "$1"
}

# run_container NAME IMAGE OPTION… -- COMMAND…: Docker starts it again after a crash and at every boot.
# The machine's own network: one container per machine, and the metadata service may stay one hop away.
run_container() {
  local name=$1 image=$2 options=()
  shift 2
  while (($#)) && [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  (($#)) && shift
  pull "$image"
  docker rm -f "$name" >/dev/null 2>&1 || true
  docker run -d --name "$name" --network host --restart unless-stopped --init \
    --log-driver json-file --log-opt max-size=10m --log-opt max-file=5 "${options[@]}" "$image" "$@" >/dev/null
  say "$name runs $image"
}
