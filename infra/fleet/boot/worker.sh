# A Celery worker for QUEUES.
# Knows nothing of the web. SIGQUIT is the soft shutdown: finish within SOFT_SHUTDOWN_TIMEOUT, hand the rest back.
# shellcheck shell=bash

prepare_service
run_container worker "$SERVICE_IMAGE" --env-file /etc/taskservice/service.env --env REMAP_SIGTERM=SIGQUIT \
  --stop-timeout 40 --cap-drop ALL --security-opt no-new-privileges:true -- \
  celery -A tasks worker -Q "$QUEUES" -n "$WORKER_NAME@%h" -c "$CONCURRENCY"
