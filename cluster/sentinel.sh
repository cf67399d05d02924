#!/bin/sh
# Starts one Sentinel. It keeps what it learns in /data/sentinel.conf, so this only writes the first one.
set -eu
conf=/data/sentinel.conf
name=$REDIS_SENTINEL_MASTER
if [ ! -e "$conf" ]; then
  {
    echo "port 26379"
    echo "dir /data"
    echo "protected-mode no"
    echo "sentinel monitor $name $FIRST_PRIMARY 6379 2"
    # More than 5 s: a Sentinel compares the replicas by reports that may be 5 s old, and the one with the most must win.
    echo "sentinel down-after-milliseconds $name 6000"
    echo "sentinel failover-timeout $name 20000"
    echo "sentinel parallel-syncs $name 1"
    [ -z "$REDIS_PASSWORD" ] || echo "sentinel auth-pass $name $REDIS_PASSWORD"
    [ -z "$REDIS_SENTINEL_PASSWORD" ] || echo "requirepass $REDIS_SENTINEL_PASSWORD"
  } > "$conf"
fi
exec docker-entrypoint.sh redis-server "$conf" --sentinel
