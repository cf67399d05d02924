#!/usr/bin/env bash
# Builds the image, starts docker-compose.yml under a name and ports of its own, runs test_tasks.py against it, then
# again with specialised workers, and takes it down, volumes included, also after a failure. Ignores .env and the
# caller's settings.
set -euo pipefail
cd "$(dirname "$0")/.."

source tests/compose-apart.sh
export COMPOSE_PROJECT_NAME="taskservice-test-$$"
url="http://127.0.0.1:$WEB_PORT"

run() { "${compose[@]}" --env-file "$no_settings" "$@"; }
run_all() { run --profile specialised "$@"; }

take_down_at_exit run_all

wait_until_ready() {
  for _ in $(seq 180); do
    if curl -fsS -o /dev/null --max-time 5 "$url/readyz" 2>/dev/null; then return; fi
    sleep 1
  done
  echo "not ready after 180 s: $(curl -sS --max-time 5 "$url/readyz" 2>&1 || true)" >&2
  return 1
}

build_image
run up -d
wait_until_ready
export TASKS_URL="$url"
"$python" test_tasks.py

# The services of a profile must not have been started by the first `up`.
if run_all ps | grep -E '(data|email|file)-worker'; then exit 1; fi
export DEDICATED_TASK_TYPES=data_processing,email_sending,file_processing
run_all up -d --scale email-worker=3
wait_until_ready
"$python" -m tests.compose_specialised
