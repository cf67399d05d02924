# For the scripts beside this one, which source it: a stack apart from whatever else runs here, on free ports and
# without .env or the caller's settings. Gives compose (the command), python and no_settings (an empty .env). Who sources
# it defines `run`, its compose on its stack, which build_image and take_down_at_exit use.

if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
python=.venv/bin/python
no_settings=$(mktemp)
for name in $(sed -n 's/^\([A-Z][A-Z0-9_]*\)=.*/\1/p' .env.example); do unset "$name"; done

free_ports() {
  "$python" -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in sockets))'
}
read -r WEB_PORT FLOWER_PORT RABBITMQ_MANAGEMENT_PORT MAILPIT_PORT < <(free_ports)
export WEB_PORT FLOWER_PORT RABBITMQ_MANAGEMENT_PORT MAILPIT_PORT

# take_down_at_exit COMMAND: its `ps`, `logs` and `down` reach everything that may run; the logs are shown after a failure.
take_down_at_exit() {
  everything=$1
  trap take_down EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

take_down() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then "$everything" ps || true; "$everything" logs --no-color --tail=60 || true; fi
  "$everything" down --volumes --remove-orphans || status=1
  rm -rf "$no_settings" ${FAULTS_DIRECTORY:+"$FAULTS_DIRECTORY"}
  exit "$status"
}

# Where a build on Docker's own network cannot reach a package registry, the host's network may.
build_image() { run build web || docker build --network=host -t taskservice:latest .; }
