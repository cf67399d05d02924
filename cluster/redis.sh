#!/bin/sh
# Starts one Redis of the cluster. Whether it is the primary is Sentinel's to say; Sentinel writes it into /data/node.conf.
set -eu
conf=/data/node.conf
wait_s=60

cli() {
  timeout 2 redis-cli --no-auth-warning "$@" 2>/dev/null
}

# The address that a Sentinel gives for the primary, if one answers.
named_primary() {
  for sentinel in $SENTINELS; do
    named=$(cli -h "$sentinel" -p 26379 ${REDIS_SENTINEL_PASSWORD:+-a "$REDIS_SENTINEL_PASSWORD"} \
      sentinel get-master-addr-by-name "$REDIS_SENTINEL_MASTER" | head -n 1) || continue
    case "$named" in *.*) echo "$named"; return ;; esac
  done
}

# Whether another Redis had been in sync with this one until it ended: it may have more than this one's disk has.
was_followed() {
  for peer in $PEERS; do
    cli -h "$peer" ${REDIS_PASSWORD:+-a "$REDIS_PASSWORD"} info replication | tr -d '\r' | awk -F : -v self="$SELF" '
      $1 == "master_host" { follows = $2 == self }
      $1 == "master_link_status" { is_down = $2 == "down" }
      $1 == "master_link_down_since_seconds" { was_up = $2 >= 0 }
      END { exit !(follows && is_down && was_up) }' && return 0
  done
  return 1
}

if [ ! -e "$conf" ]; then
  if [ "$SELF" = "$FIRST_PRIMARY" ]; then : > "$conf"; else echo "replicaof $FIRST_PRIMARY 6379" > "$conf"; fi
fi

# A primary that is back before the Sentinels have missed it would make its replicas copy what is on its disk. So it
# lets one of them take over first, and comes back as a replica. When all were stopped, nobody waits.
until grep -q '^replicaof ' "$conf"; do
  primary=$(named_primary)
  if [ -n "$primary" ] && [ "$primary" != "$SELF" ]; then echo "replicaof $primary 6379" >> "$conf"; break; fi
  if [ "$wait_s" -le 0 ] || ! was_followed; then break; fi
  wait_s=$((wait_s - 1))
  sleep 1
done

# On the command line, because there they win over what Sentinel's CONFIG REWRITE has left in the file.
exec docker-entrypoint.sh redis-server "$conf" \
  --requirepass "$REDIS_PASSWORD" --masterauth "$REDIS_PASSWORD" \
  --appendonly yes --appendfsync "$REDIS_APPENDFSYNC" --save "" \
  --maxmemory 1gb --maxmemory-policy noeviction --hash-max-listpack-value 1024 \
  --min-replicas-to-write 1 --min-replicas-max-lag 10 \
  --repl-backlog-size 64mb --repl-diskless-sync-delay 0
