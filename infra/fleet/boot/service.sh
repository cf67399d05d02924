# The environment of the image's own containers, web and workers: settings from the program, secrets from Parameter Store.
# Knows no role; web.sh or worker.sh follows it.
# shellcheck shell=bash

# RABBITMQ_HOST names every node, so that a lost node is no lost service; in an order of this machine's own, so that not
# all are connected to the first.
add_broker_hosts() {
  printf 'RABBITMQ_HOST=%s\n' "$(tr ' ' '\n' <<<"$BROKER_HOSTS" | shuf | paste -sd ,)" >>/etc/taskservice/service.env
}

# `taskservice keys create …` on the machine: the service's command line with the service's settings.
install_command() {
  cat >/usr/local/sbin/taskservice <<TXT
#!/bin/bash
exec docker run --rm --init --network host --env-file /etc/taskservice/service.env $SERVICE_IMAGE python -m taskservice "\$@"
TXT
  chmod 700 /usr/local/sbin/taskservice
}

prepare_service() {
  install_packages
  install_command
  write_environment /etc/taskservice/service.env
  printf '%s\n' "$SERVICE_ENVIRONMENT" >>/etc/taskservice/service.env
  add_broker_hosts
}
