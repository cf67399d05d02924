#!/usr/bin/env bash
# Builds the image, starts docker-compose.cluster.yml under a name, ports and addresses of its own with the tests' task
# types, runs tests/cluster against it and takes it down again, volumes included. Ignores .env and the caller's settings.
set -euo pipefail
cd "$(dirname "$0")/.."

source tests/compose-apart.sh
export COMPOSE_PROJECT_NAME="taskservice-cluster-$$" CLUSTER_SUBNET="10.73.$((1 + $$ % 250))"
export TASK_TYPE_MODULES=tests.support.task_types MAX_RETRY_DELAY=4 SOFT_SHUTDOWN_TIMEOUT=6

# Web and workers are another user than we are; both write here.
FAULTS_DIRECTORY=$(mktemp -d)
chmod 777 "$FAULTS_DIRECTORY"
export FAULTS_DIRECTORY FAULTS_TESTS="$PWD/tests" FAULTS_URL="http://127.0.0.1:$WEB_PORT"

run() {
  "${compose[@]}" --env-file "$no_settings" -f docker-compose.yml -f docker-compose.cluster.yml \
    -f tests/compose-faults.yml "$@"
}

take_down_at_exit run
build_image
run up -d web worker-high worker-normal worker-low
"$python" -m pytest tests/cluster "$@"
