#!/usr/bin/env bash
# Builds the image, starts docker-compose.yml under a name and ports of its own with the tests' task types, runs the
# fault suite against it and takes it down again, volumes included. Ignores .env and the caller's settings.
set -euo pipefail
cd "$(dirname "$0")/.."

source tests/compose-apart.sh
export COMPOSE_PROJECT_NAME="taskservice-faults-$$"
export TASK_TYPE_MODULES=tests.support.task_types,tests.support.worker_fail_point MAX_RETRY_DELAY=4 SOFT_SHUTDOWN_TIMEOUT=6
export RATE_LIMITS=rated_sleep=5/s REPUBLISH_AFTER=10

# Web and workers are another user than we are; both write here.
FAULTS_DIRECTORY=$(mktemp -d)
chmod 777 "$FAULTS_DIRECTORY"
export FAULTS_DIRECTORY FAULTS_TESTS="$PWD/tests" FAULTS_TARGET=compose FAULTS_URL="http://127.0.0.1:$WEB_PORT"

run() { "${compose[@]}" --env-file "$no_settings" -f docker-compose.yml -f tests/compose-faults.yml "$@"; }

take_down_at_exit run
build_image
run up -d web worker-high worker-normal worker-low
"$python" -m pytest tests/faults -m "not soak" "$@"
