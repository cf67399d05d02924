#!/usr/bin/env bash
# Builds the image, starts docker-compose.yml under a name and ports of its own with the tests' task types, runs the
# fault suite against it and takes it down again, volumes included. Ignores .env and the caller's settings.
set -euo pipefail
cd "$(dirname "$0")/.."

source tests/compose-apart.sh
export COMPOSE_PROJECT_NAME="taskservice-faults-$$"
export TASK_TYPE_MODULES=tests.support.task_types MAX_RETRY_DELAY=4 SOFT_SHUTDOWN_TIMEOUT=6

# Web and workers are another user than we are; both write here.
FAULTS_DIRECTORY=$(mktemp -d)
chmod 777 "$FAULTS_DIRECTORY"
export FAULTS_DIRECTORY FAULTS_TESTS="$PWD/tests" FAULTS_TARGET=compose FAULTS_URL="http://127.0.0.1:$WEB_PORT"

run() { "${compose[@]}" --env-file "$no_settings" -f docker-compose.yml -f tests/compose-faults.yml "$@"; }

take_down() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then run ps || true; run logs --no-color --tail=60 || true; fi
  run down --volumes --remove-orphans || status=1
  rm -rf "$no_settings" "$FAULTS_DIRECTORY"
  exit "$status"
}
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Where a build on Docker's own network cannot reach a package registry, the host's network may.
run build web || docker build --network=host -t taskservice:latest .
run up -d web worker-high worker-normal worker-low
"$python" -m pytest tests/faults -m "not soak" "$@"
