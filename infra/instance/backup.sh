#!/usr/bin/env bash
# Copies what cannot be made again into one directory per run: Redis' records, RabbitMQ's definitions, the files.
# The messages that wait in RabbitMQ are not in it (only a copy of the stopped disk has them), nor is .env.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=compose.sh
. "$(dirname "$(readlink -f "$0")")/compose.sh"

checkout=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
target=/var/backups/taskservice
keep=7

main() {
  read_arguments "$@"
  umask 077
  local name
  name=$(date -u +%Y%m%dT%H%M%SZ)
  # Under another name until it is whole, so that a backup that broke off is never taken for one.
  work=$target/.unfinished-$name
  mkdir -p "$work"
  trap 'rm -rf "$work"' EXIT
  copy_records
  copy_definitions
  copy_files
  (cd "$work" && sha256sum -- * >SHA256SUMS)
  mv "$work" "$target/$name"
  remove_old
  say "$target/$name ($(du -sh "$target/$name" | cut -f1))"
}

read_arguments() {
  while (($#)); do
    case "$1" in
      --checkout) checkout=$(readlink -f "${2:?--checkout needs a directory}") && shift 2 ;;
      --target) target=${2:?--target needs a directory} && shift 2 ;;
      --keep) keep=${2:?--keep needs a number} && shift 2 ;;
      *) fail "unknown argument: $1 (usage: backup.sh [--checkout DIR] [--target DIR] [--keep N])" ;;
    esac
  done
  [[ $keep =~ ^[1-9][0-9]*$ ]] || fail "--keep $keep: expected a whole number from 1"
}

copy_records() {
  # shellcheck disable=SC2016  # for the container's shell
  compose exec -T redis sh -c '
    export REDISCLI_AUTH="$REDIS_PASSWORD"
    redis-cli --rdb /tmp/backup.rdb >&2 && cat /tmp/backup.rdb && rm /tmp/backup.rdb' >"$work/redis.rdb"
  [ "$(head -c 5 "$work/redis.rdb")" = REDIS ] || fail "Redis gave no snapshot; see: docker-compose logs redis"
}

copy_definitions() {
  compose exec -T rabbitmq rabbitmqctl -q export_definitions - --format json >"$work/rabbitmq-definitions.json"
  grep -q '"queues"' "$work/rabbitmq-definitions.json" || fail "RabbitMQ gave no definitions; see: docker-compose logs rabbitmq"
}

copy_files() { compose exec -T web tar -C /data/files -cf - . >"$work/files.tar"; }

remove_old() {
  find "$target" -mindepth 1 -maxdepth 1 -name '2*Z' -type d | sort | head -n "-$keep" | xargs -r rm -rf --
}

main "$@"
