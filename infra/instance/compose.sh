# What the scripts of one instance share: messages, and docker-compose.yml by whichever compose is installed.
# Sourced by scripts that have set `checkout`, never run; must not change anything by itself.
# shellcheck shell=bash disable=SC2154

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

require_root() { [ "$(id -u)" = 0 ] || fail "must run as root: sudo $0"; }

# True when systemd runs this machine; in a container it usually does not.
has_systemd() { [ -d /run/systemd/system ]; }

compose() {
  if docker compose version >/dev/null 2>&1; then
    (cd "$checkout" && docker compose "$@")
  else
    (cd "$checkout" && docker-compose "$@")
  fi
}

# wait_until SECONDS WHAT COMMAND…: repeats the command every second until it succeeds.
wait_until() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  while ((SECONDS < end)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 1
  done
  say "$what: not after $seconds s" >&2
  return 1
}

web_port() {
  local port
  port=$(sed -n 's/^WEB_PORT=//p' "$checkout/.env" 2>/dev/null | tail -n 1)
  printf '%s' "${port:-5000}"
}

is_ready() { curl -fsS -o /dev/null --max-time 5 "http://127.0.0.1:$(web_port)/readyz"; }
