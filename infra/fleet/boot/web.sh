# The HTTP side, behind the balancer.
# Knows nothing of workers.
# shellcheck shell=bash

prepare_service
run_container web "$SERVICE_IMAGE" --env-file /etc/taskservice/service.env --stop-timeout 40 --cap-drop ALL \
  --security-opt no-new-privileges:true -- gunicorn app:app -b 0.0.0.0:5000 --worker-tmp-dir /dev/shm
