#!/usr/bin/env bash
# Makes a clean Debian 12 or 13 or Ubuntu 24.04 machine run this checkout: Docker, .env, start at boot, TLS, backups.
# Run again after any change: what is there stays, an existing .env above all.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=compose.sh
. "$(dirname "$(readlink -f "$0")")/compose.sh"

usage() {
  cat <<'TXT'
usage: sudo infra/instance/setup.sh [--checkout DIR] [--domain NAME] [--no-start]
  --checkout DIR  the checkout to run; default: the one this script lies in
  --domain NAME   serve https://NAME with Caddy. NAME must already point to this machine, ports 80 and 443 be open.
                  Makes the first API key if there is none: from then on everybody needs one.
                  Without it nothing but this machine reaches the service; use an SSH tunnel.
  --no-start      set everything up and start nothing
TXT
}

checkout=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
domain=
start=yes
first_key=/etc/taskservice/first-key

main() {
  read_arguments "$@"
  require_root
  require_supported_system
  require_checkout
  install_packages
  configure_docker
  make_user
  write_env
  install_units
  start_service
  lock_service
  serve_https
  say "done"
}

read_arguments() {
  while (($#)); do
    case "$1" in
      --checkout) checkout=$(readlink -f "${2:?--checkout needs a directory}") && shift 2 ;;
      --domain) domain=${2:?--domain needs a name} && shift 2 ;;
      --no-start) start=no && shift ;;
      -h | --help) usage && exit 0 ;;
      *) usage >&2 && fail "unknown argument: $1" ;;
    esac
  done
  # The name goes into Caddy's configuration, where a brace or a space would mean something else.
  case "$domain" in *[!A-Za-z0-9.-]* | .* | -*) fail "--domain $domain: expected a host name such as tasks.example.org" ;; esac
}

require_supported_system() {
  local ID=unknown VERSION_ID=
  # shellcheck source=/dev/null
  . /etc/os-release
  case "$ID:$VERSION_ID" in
    debian:12 | debian:13 | ubuntu:24.04) ;;
    *) fail "$ID $VERSION_ID: expected Debian 12, Debian 13 or Ubuntu 24.04, whose packages have Docker, Compose and Caddy" ;;
  esac
}

require_checkout() {
  [ -f "$checkout/docker-compose.yml" ] || fail "--checkout $checkout: no docker-compose.yml there"
}

install_packages() {
  local wanted=(ca-certificates curl docker.io) missing=() name
  is_installed docker.io || apt-get -q update
  # Debian 13 has the docker command in a package of its own; Ubuntu calls Compose v2 another name.
  has_package docker-cli && wanted+=(docker-cli)
  if has_package docker-compose-v2; then wanted+=(docker-compose-v2); else wanted+=(docker-compose); fi
  [ -n "$domain" ] && wanted+=(caddy)
  for name in "${wanted[@]}"; do
    is_installed "$name" || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" ||
    fail "apt-get could not install: ${missing[*]}"
}

has_package() { [ -n "$(apt-cache show "$1" 2>/dev/null)" ]; }

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Docker's proxy accepts connections for a container that does not listen yet and then drops them. Without it they are
# refused, which Caddy may safely try again.
configure_docker() {
  local file=/etc/docker/daemon.json
  if [ -e "$file" ]; then
    grep -q '"userland-proxy": *false' "$file" || say "keeping $file: without \"userland-proxy\": false an update answers some 502"
    return
  fi
  mkdir -p /etc/docker
  printf '{"userland-proxy": false}\n' >"$file"
  if has_systemd; then systemctl restart docker.service; fi
}

# Whoever may talk to Docker is root in all but name, so this account has no login.
make_user() {
  id taskservice >/dev/null 2>&1 ||
    useradd --system --home-dir /var/lib/taskservice --shell /usr/sbin/nologin taskservice
  usermod --append --groups docker taskservice
  install -d -o taskservice -g taskservice -m 700 /var/lib/taskservice /var/backups/taskservice
}

write_env() {
  if [ -e "$checkout/.env" ]; then
    say "keeping $checkout/.env"
    [ -z "$domain" ] || grep -q '^TRUSTED_PROXIES=[1-9]' "$checkout/.env" ||
      fail "$checkout/.env: set TRUSTED_PROXIES=1 there, because Caddy stands in front, and run this again"
  else
    (umask 077 && print_env >"$checkout/.env.new" && mv "$checkout/.env.new" "$checkout/.env")
    say "wrote $checkout/.env with fresh secrets"
  fi
  chown taskservice:taskservice "$checkout/.env"
  chmod 600 "$checkout/.env"
}

print_env() {
  cat <<TXT
# Written once by infra/instance/setup.sh; yours from then on. Every name is described in .env.example.
BIND_ADDRESS=127.0.0.1
TRUSTED_PROXIES=$([ -n "$domain" ] && echo 1 || echo 0)
RABBITMQ_USER=taskservice
RABBITMQ_PASSWORD=$(random_secret)
REDIS_PASSWORD=$(random_secret)
FLOWER_BASIC_AUTH=operator:$(random_secret)
TXT
}

# 32 characters of 0-9a-f, 128 bits: nothing that a URL, a shell or compose would read as more than a character.
random_secret() { head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

install_units() {
  write_unit taskservice.service <<TXT
[Unit]
Description=Task service
Requires=docker.service
After=docker.service network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
User=taskservice
WorkingDirectory=$checkout
# The first start builds the image; a stop lets running tasks finish (STOP_GRACE_PERIOD of every container).
ExecStart=$(compose_command) up -d --remove-orphans
ExecStop=$(compose_command) stop
TimeoutStartSec=1800
TimeoutStopSec=180

[Install]
WantedBy=multi-user.target
TXT
  write_unit taskservice-backup.service <<TXT
[Unit]
Description=Backup of the task service
Requires=taskservice.service
After=taskservice.service

[Service]
Type=oneshot
User=taskservice
ExecStart=$checkout/infra/instance/backup.sh --checkout $checkout
TXT
  write_unit taskservice-backup.timer <<TXT
[Unit]
Description=Nightly backup of the task service

[Timer]
OnCalendar=*-*-* 03:17
RandomizedDelaySec=10m
Persistent=true

[Install]
WantedBy=timers.target
TXT
  if ! has_systemd; then
    say "systemd does not run this machine: units are written, but nothing starts at boot and no backup runs by itself"
    return
  fi
  systemctl daemon-reload
  systemctl enable --quiet docker.service taskservice.service taskservice-backup.timer
}

compose_command() {
  if docker compose version >/dev/null 2>&1; then echo "/usr/bin/docker compose"; else echo "/usr/bin/docker-compose"; fi
}

write_unit() { cat >"/etc/systemd/system/$1"; }

start_service() {
  [ "$start" = yes ] || { say "not started (--no-start)" && return; }
  has_systemd && systemctl start docker.service
  wait_until 30 "Docker answers" docker info || fail "Docker does not answer; see: journalctl -u docker"
  say "starting; the first time builds the image, which takes some minutes"
  if has_systemd; then
    # restart, not start: a unit that ran before would not look at docker-compose.yml and .env again.
    systemctl start taskservice.service || fail "the service did not start; see: journalctl -u taskservice"
    systemctl start taskservice-backup.timer
  fi
  compose up -d --remove-orphans || fail "compose could not start the service"
  wait_until 300 "http://127.0.0.1:$(web_port)/readyz" is_ready ||
    fail "started but not ready: curl http://127.0.0.1:$(web_port)/readyz names what is missing"
  say "ready on http://127.0.0.1:$(web_port)"
}

# With Caddy in front loopback no longer means this machine, so the service must ask for keys before anyone can call it.
lock_service() {
  if [ -z "$domain" ] || [ "$start" != yes ]; then return; fi
  install -d -m 700 /etc/taskservice
  local known
  known=$(keys list --json) || fail "the service does not tell its API keys; see: docker-compose logs web"
  [ -n "$known" ] || make_first_key
  wait_until 15 "the service asks for a key" asks_for_key ||
    fail "the service answers without a key; it is not put behind Caddy: $checkout/docker-compose.yml, service web"
}

# In a file and not on the screen: cloud-init keeps what a script prints.
make_first_key() {
  (umask 077 && keys create first --scope submit --scope read --scope manage >"$first_key.new") ||
    fail "no API key could be made; see: docker-compose logs web"
  mv "$first_key.new" "$first_key"
  say "the first API key is in $first_key: read it, keep it elsewhere, delete the file"
}

keys() { compose exec -T web python -m taskservice keys "$@" </dev/null 2>/dev/null; }

asks_for_key() {
  [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "http://127.0.0.1:$(web_port)/api/task-types")" = 401 ]
}

# Caddy sets X-Forwarded-For and X-Forwarded-Proto itself and passes none of a client's on.
serve_https() {
  [ -n "$domain" ] || { say "no --domain: reach the service through an SSH tunnel" && return; }
  [ "$start" = yes ] || { say "Caddy is left alone (--no-start)" && return; }
  # Connections that are refused are tried again, so that a web that crashed is a pause and not an error; a kept
  # connection could break in the middle, and nobody would know whether the request had been taken.
  cat >/etc/caddy/Caddyfile.new <<TXT
# Written by infra/instance/setup.sh.
$domain {
	reverse_proxy 127.0.0.1:$(web_port) {
		lb_try_duration 30s
		lb_try_interval 500ms
		transport http {
			keepalive off
		}
	}
}
TXT
  caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile.new >/dev/null 2>&1 ||
    fail "Caddy refuses /etc/caddy/Caddyfile.new: caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile.new"
  chgrp caddy /etc/caddy/Caddyfile.new
  chmod 640 /etc/caddy/Caddyfile.new
  mv /etc/caddy/Caddyfile.new /etc/caddy/Caddyfile
  if ! has_systemd; then
    say "systemd does not run this machine: start it yourself: caddy run --config /etc/caddy/Caddyfile"
    return
  fi
  systemctl enable --quiet caddy
  systemctl reload-or-restart caddy || fail "Caddy did not start; see: journalctl -u caddy"
  say "serving https://$domain"
}

main "$@"
