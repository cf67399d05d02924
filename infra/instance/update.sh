#!/usr/bin/env bash
# Brings the service to another commit without losing a task: RabbitMQ and Redis stay up, workers finish or hand back.
# Behind Caddy callers notice nothing: a second web of the new image serves while the first is replaced.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=compose.sh
. "$(dirname "$(readlink -f "$0")")/compose.sh"

checkout=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
ref=
patience=180
stand_in=taskservice-stand-in
caddyfile=/etc/caddy/Caddyfile

main() {
  read_arguments "$@"
  require_root
  is_ready || fail "the service is not ready now: bring it up first, so that a failure afterwards means the update"
  "$checkout/infra/instance/backup.sh" --checkout "$checkout"
  fetch_commit
  docker tag taskservice:latest taskservice:previous
  compose build web || fail "the image does not build; the running service was not touched"
  others=$(services_beside_web)
  trap leave EXIT
  start_stand_in || refuse
  replace || go_back
  say "updated to $(commit)"
}

read_arguments() {
  while (($#)); do
    case "$1" in
      --checkout) checkout=$(readlink -f "${2:?--checkout needs a directory}") && shift 2 ;;
      --ref) ref=${2:?--ref needs a commit, tag or branch} && shift 2 ;;
      --patience) patience=${2:?--patience needs seconds} && shift 2 ;;
      *) fail "unknown argument: $1 (usage: update.sh [--checkout DIR] [--ref COMMIT] [--patience SECONDS])" ;;
    esac
  done
  [[ $patience =~ ^[1-9][0-9]*$ ]] || fail "--patience $patience: expected a whole number of seconds from 1"
}

git_here() { git -c safe.directory="$checkout" -C "$checkout" "$@"; }

commit() { git_here rev-parse --short HEAD 2>/dev/null || echo "the files in $checkout"; }

# Without --ref the files are taken as they are: who copies them here instead of using git updates them first.
fetch_commit() {
  [ -n "$ref" ] || return 0
  git_here fetch --quiet --tags origin
  git_here checkout --quiet --detach "$(git_here rev-parse --verify --quiet "origin/$ref" || echo "$ref")" ||
    fail "--ref $ref: not a commit, tag or branch, or a changed file is in the way"
}

# A web of the newest image on a port of its own. Nobody is led to it yet, so an image that does not start harms nobody.
start_stand_in() {
  docker rm -f "$stand_in" >/dev/null 2>&1 || true
  compose run -d --no-deps --name "$stand_in" --publish 127.0.0.1::5000 web >/dev/null &&
    wait_until "$patience" "/readyz of the new image" is_stand_in_ready
}

stand_in_port() { docker port "$stand_in" 5000/tcp | sed -n 's/.*://p' | head -n 1; }

# One that has ended has no port.
is_stand_in_ready() {
  local port
  port=$(stand_in_port)
  [ -n "$port" ] && curl -fsS -o /dev/null --max-time 5 "http://127.0.0.1:$port/readyz"
}

refuse() {
  docker logs --tail 20 "$stand_in" >&2 || true
  docker tag taskservice:previous taskservice:latest
  fail "the new image does not become ready; the running service was not touched; the files are those of $(commit)"
}

# Workers first: a new web may publish what an old worker does not know, the other way round is harmless.
replace() {
  # shellcheck disable=SC2086  # one word per service
  compose up -d --no-build --no-deps $others &&
    wait_until "$patience" "/readyz with the new workers" is_stand_in_ready &&
    lead_to "$(stand_in_port)" &&
    drain "$(compose ps -q web)" &&
    compose up -d --no-build --no-deps web &&
    wait_until "$patience" "/readyz of the new web" is_ready &&
    lead_to "$(web_port)" &&
    drain "$stand_in"
}

# Those that run here: a profile that is not used stays unused.
services_beside_web() {
  local service
  for service in $(compose config --services | grep -vx -e rabbitmq -e redis -e mailpit -e web); do
    [ -z "$(compose ps -q "$service" 2>/dev/null)" ] || printf '%s ' "$service"
  done
}

# lead_to PORT: only in Caddy's memory, so that after a crash of this machine it finds the web where it always is.
lead_to() {
  is_behind_caddy || return 0
  sed "s/127\.0\.0\.1:$(web_port)/127.0.0.1:$1/" "$caddyfile" |
    caddy reload --adapter caddyfile --config /dev/stdin >/dev/null 2>&1
}

is_behind_caddy() { has_systemd && systemctl is-active --quiet caddy && grep -qF "127.0.0.1:$(web_port)" "$caddyfile"; }

# drain CONTAINER: until nobody is connected to it. 35 s outlast every request; a stream that goes on is ended and resumed.
drain() {
  is_behind_caddy || return 0
  wait_until 35 "requests to the web before have ended" is_idle "$1" || true
}

# 1388 is 5000 in the kernel's table, 01 an established connection.
is_idle() { ! docker exec "$1" cat /proc/net/tcp | awk '$2 ~ /:1388$/ && $4 == "01"' | grep -q .; }

go_back() {
  say "going back to the image before" >&2
  docker tag taskservice:previous taskservice:latest
  # A web that was not replaced yet is left as it is.
  # shellcheck disable=SC2086  # one word per service
  compose up -d --no-build --no-deps $others web || fail "the image before does not start: docker-compose logs"
  wait_until "$patience" "/readyz of the image before" is_ready ||
    fail "the image before is not ready either: docker-compose ps, docker-compose logs"
  fail "the update was undone; the files in $checkout are still those of $(commit)"
}

leave() {
  lead_to "$(web_port)" || true
  docker stop --time 40 "$stand_in" >/dev/null 2>&1 || true
  docker rm -f "$stand_in" >/dev/null 2>&1 || true
}

main "$@"
