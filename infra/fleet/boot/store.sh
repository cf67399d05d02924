# The Redis that keeps the records.
# Knows nothing of tasks.
# shellcheck shell=bash

# noeviction: a full store makes workers wait; an evicted record would be a lost one.
# Half of the memory: rewriting the append-only file may need as much again.
run_store() {
  local kilobytes
  kilobytes=$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)
  # shellcheck disable=SC2016  # for the container's shell, so that the password is in no file but store.env
  run_container store "$STORE_IMAGE" --env-file /etc/taskservice/store.env --env "MAXMEMORY=$((kilobytes / 2))kb" \
    --volume /var/lib/taskservice/redis:/data --stop-timeout 60 -- \
    sh -c 'exec docker-entrypoint.sh redis-server --bind 0.0.0.0 --appendonly yes --appendfsync everysec \
      --hash-max-listpack-value 1024 --maxmemory "$MAXMEMORY" --maxmemory-policy noeviction --requirepass "$REDIS_PASSWORD"'
}

install_packages
mount_data /var/lib/taskservice/redis
write_environment /etc/taskservice/store.env
# A fork that Redis may not make is an append-only file it cannot rewrite.
mkdir -p /etc/sysctl.d
echo 'vm.overcommit_memory = 1' >/etc/sysctl.d/90-redis.conf
sysctl -q -p /etc/sysctl.d/90-redis.conf || say "vm.overcommit_memory could not be set"
run_store
