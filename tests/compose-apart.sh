# For the scripts beside this one, which source it: a stack apart from whatever else runs here, on free ports and
# without .env or the caller's settings. Gives compose (the command), python and no_settings (an empty .env).

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
