#!/usr/bin/env bash
# Puts a backup of backup.sh back: records, definitions and files. What the machine has of them now is replaced.
# The service is stopped meanwhile; tasks that were accepted after the backup are lost from the records. What had not ended
# at the backup runs again: its message is published again after REPUBLISH_AFTER (0: never).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=compose.sh
. "$(dirname "$(readlink -f "$0")")/compose.sh"

checkout=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
backup=${1:?usage: sudo restore.sh BACKUP-DIRECTORY [CHECKOUT]}

main() {
  require_root
  [ -z "${2:-}" ] || checkout=$(readlink -f "$2")
  [ -f "$backup/SHA256SUMS" ] || fail "$backup: no SHA256SUMS, so this is not a whole backup"
  (cd "$backup" && sha256sum --check --quiet SHA256SUMS) || fail "$backup: damaged"
  compose stop
  restore_records
  compose up -d --no-build rabbitmq redis
  wait_until 120 "RabbitMQ answers" compose exec -T rabbitmq rabbitmqctl -q await_startup
  restore_definitions
  compose up -d --no-build
  wait_until 180 "/readyz" is_ready
  compose exec -T web tar -C /data/files -xf - <"$backup/files.tar"
  say "restored $backup"
}

# With appendonly on, Redis reads its append-only file and ignores a snapshot, so one start without it turns one into the other.
restore_records() {
  # shellcheck disable=SC2016  # for the container's shell
  compose run --rm --no-deps -T --entrypoint sh redis -c '
    set -e
    rm -rf /data/appendonlydir /data/appendonly.aof /data/dump.rdb
    cat >/data/dump.rdb
    redis-server --dir /data --port 6399 --bind 127.0.0.1 --appendonly no --daemonize yes --logfile /tmp/redis.log
    ask() { redis-cli -p 6399 "$@"; }
    n=0; until ask ping | grep -q PONG; do n=$((n + 1)); [ $n -lt 120 ] || { cat /tmp/redis.log >&2; exit 1; }; sleep 1; done
    ask config set appendonly yes >/dev/null
    n=0; until ask info persistence | grep -q "aof_rewrite_in_progress:0" && ask info persistence | grep -q "aof_rewrite_scheduled:0"; do
      n=$((n + 1)); [ $n -lt 600 ] || exit 1; sleep 1; done
    ask shutdown || true
    n=0; while ask ping 2>/dev/null | grep -q PONG; do n=$((n + 1)); [ $n -lt 60 ] || exit 1; sleep 1; done
    [ ! -e /data/appendonlydir ] || chown -R --reference=/data /data/appendonlydir /data/dump.rdb' <"$backup/redis.rdb"
}

# From a file: rabbitmqctl does not notice the end of what compose hands it.
restore_definitions() {
  compose exec -T rabbitmq sh -c '
    cat >/tmp/definitions.json
    rabbitmqctl -q import_definitions --format json /tmp/definitions.json
    rm /tmp/definitions.json' <"$backup/rabbitmq-definitions.json"
}

main "$@"
