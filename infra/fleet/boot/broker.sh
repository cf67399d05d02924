# A RabbitMQ node: BROKER_HOSTS names them all, BROKER_HOST is this one.
# Knows nothing of tasks; the web and the workers declare their queues.
# shellcheck shell=bash disable=SC2153

data=/var/lib/taskservice/rabbitmq

write_broker_configuration() {
  local number=0 host
  {
    echo 'management.tcp.ip = 127.0.0.1'
    # 2 h, longer than any task may run: a delivery not acknowledged by then costs the worker its connection.
    echo 'consumer_timeout = 7200000'
    if [ "$BROKER_HOSTS" != "$BROKER_HOST" ]; then
      echo 'cluster_formation.peer_discovery_backend = classic_config'
      # The side of a split that has no majority stops taking messages instead of taking ones it may lose.
      echo 'cluster_partition_handling = pause_minority'
      # Seconds until a silent node counts as gone and what its consumers held is delivered again.
      echo 'net_ticktime = 20'
      # Leaders are spread, and every queue gets three members, also one that was declared while a node was away.
      echo 'queue_leader_locator = balanced'
      echo 'quorum_queue.continuous_membership_reconciliation.enabled = true'
      echo 'quorum_queue.continuous_membership_reconciliation.target_group_size = 3'
      echo 'quorum_queue.continuous_membership_reconciliation.interval = 30000'
      for host in $BROKER_HOSTS; do
        number=$((number + 1))
        echo "cluster_formation.classic_config.nodes.$number = rabbit@$host"
      done
    fi
  } >/etc/taskservice/rabbitmq.conf
  chmod 644 /etc/taskservice/rabbitmq.conf
}

# Every node needs the same cookie; the image gives the file to the user it runs as.
write_cookie() {
  rm -f "$data/.erlang.cookie"
  sed -n 's/^ERLANG_COOKIE=//p' /etc/taskservice/broker.env | tr -d '\n' >"$data/.erlang.cookie"
  chmod 400 "$data/.erlang.cookie"
  sed -i '/^ERLANG_COOKIE=/d' /etc/taskservice/broker.env
}

# Two empty nodes would found a cluster of their own beside a first one that has data and comes up more slowly, as when
# one broker becomes three. One that does not come at all is not waited for any longer.
wait_for_first_broker() {
  local first=${BROKER_HOSTS%% *}
  if [ "$BROKER_HOST" != "$first" ] && [ ! -d "$data/mnesia" ]; then
    again "${1:-600}" listens "$first" || say "goes on without $first"
  fi
}

listens() { timeout 2 bash -c "</dev/tcp/$1/5672" 2>/dev/null; }

run_broker() {
  again 600 getent hosts "$BROKER_HOST" >/dev/null
  run_container broker "$BROKER_IMAGE" --env-file /etc/taskservice/broker.env \
    --env RABBITMQ_USE_LONGNAME=true --env "RABBITMQ_NODENAME=rabbit@$BROKER_HOST" \
    --volume "$data:/var/lib/rabbitmq" --stop-timeout 60 \
    --env RABBITMQ_CONFIG_FILE=/fleet/rabbitmq.conf --volume /etc/taskservice/rabbitmq.conf:/fleet/rabbitmq.conf:ro
}

# The auto-scaling groups of the workers follow this number. Each node sends all of them: they are averaged.
install_depth_publisher() {
  cat >/usr/local/sbin/publish-queue-depth <<TXT
#!/bin/bash
set -euo pipefail
data=\$(docker exec broker rabbitmqctl -q list_queues name messages --no-table-headers |
  awk '\$1 ~ /_priority/ {printf "MetricName=QueueDepth,Dimensions=[{Name=Queue,Value=%s}],Value=%s,Unit=Count ", \$1, \$2}')
[ -n "\$data" ] || exit 0
# shellcheck disable=SC2086  # one word per queue
aws cloudwatch put-metric-data --region $AWS_REGION --namespace $METRIC_NAMESPACE --metric-data \$data
TXT
  chmod 700 /usr/local/sbin/publish-queue-depth
  printf '[Unit]\nDescription=Send queue depths to CloudWatch\n[Service]\nType=oneshot\nExecStart=/usr/local/sbin/publish-queue-depth\n' \
    >/etc/systemd/system/publish-queue-depth.service
  printf '[Unit]\nDescription=Send queue depths every minute\n[Timer]\nOnCalendar=minutely\nAccuracySec=5s\n[Install]\nWantedBy=timers.target\n' \
    >/etc/systemd/system/publish-queue-depth.timer
  systemctl daemon-reload
  systemctl enable --now --quiet publish-queue-depth.timer
}

install_packages
mount_data "$data"
write_environment /etc/taskservice/broker.env
write_broker_configuration
write_cookie
wait_for_first_broker
run_broker
install_depth_publisher
