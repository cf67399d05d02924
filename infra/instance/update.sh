#!/usr/bin/env bash
# Brings the service to another commit without losing a task: RabbitMQ and Redis stay up, workers finish or hand back.
# Goes back to the image it came from when the new one does not become ready.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=compose.sh
. "$(dirname "$(readlink -f "$0")")/compose.sh"

checkout=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
ref=

main() {
  read_arguments "$@"
  require_root
  is_ready || fail "the service is not ready now: bring it up first, so that a failure afterwards means the update"
  "$checkout/infra/instance/backup.sh" --checkout "$checkout"
  fetch_commit
  docker tag taskservice:latest taskservice:previous
  compose build web || fail "the image does not build; the running service was not touched"
  replace || go_back
  say "updated to $(commit)"
}

read_arguments() {
  while (($#)); do
    case "$1" in
      --checkout) checkout=$(readlink -f "${2:?--checkout needs a directory}") && shift 2 ;;
      --ref) ref=${2:?--ref needs a commit, tag or branch} && shift 2 ;;
      *) fail "unknown argument: $1 (usage: update.sh [--checkout DIR] [--ref COMMIT])" ;;
    esac
  done
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

# Workers first: a new web may publish what an old worker does not know, the other way round is harmless.
replace() {
  local others
  others=$(compose config --services | grep -vx -e rabbitmq -e redis -e mailpit -e web)
  # shellcheck disable=SC2086  # one word per service
  compose up -d --no-build --no-deps $others &&
    compose up -d --no-build --no-deps web &&
    wait_until 180 "/readyz of the new image" is_ready
}

go_back() {
  say "going back to the image before" >&2
  docker tag taskservice:previous taskservice:latest
  replace || fail "the image before is not ready either: docker-compose ps, docker-compose logs"
  fail "the update was undone; the files in $checkout are still those of $(commit)"
}

main "$@"
