#!/bin/sh
# Starts one RabbitMQ node of the cluster: the nodes know one another by the cookie.
set -eu
case "$BIND_ADDRESS:$RABBITMQ_DEFAULT_PASS:$CLUSTER_COOKIE" in
  127.*|localhost:*) ;;
  *:guest:*|*:only-for-loopback)
    echo "BIND_ADDRESS=$BIND_ADDRESS needs RABBITMQ_USER, RABBITMQ_PASSWORD and RABBITMQ_ERLANG_COOKIE of your own" >&2
    exit 1 ;;
esac
mkdir -p /etc/rabbitmq/conf.d
cp /cluster/rabbitmq.conf /etc/rabbitmq/conf.d/20-cluster.conf
umask 077
rm -f /var/lib/rabbitmq/.erlang.cookie  # a node makes one that it alone may read
printf %s "$CLUSTER_COOKIE" > /var/lib/rabbitmq/.erlang.cookie

# Two empty nodes would found a cluster of their own beside a first one that has data and starts more slowly.
wait_s=60
if [ "$(hostname)" != rabbitmq ] && [ ! -d /var/lib/rabbitmq/mnesia ]; then
  until timeout 1 bash -c '</dev/tcp/rabbitmq/5672' 2>/dev/null || [ "$wait_s" -le 0 ]; do
    wait_s=$((wait_s - 1))
    sleep 1
  done
fi
exec docker-entrypoint.sh rabbitmq-server
