# The environment of the image's own containers, web and workers: settings from the program, secrets from Parameter Store.
# Knows no role; web.sh or worker.sh follows it.
# shellcheck shell=bash

# RABBITMQ_PASSWORD and RABBITMQ_USER become one URL that names every node, so that a lost node is no lost connection.
add_broker_url() {
  local user password url='' host
  user=$(sed -n 's/^RABBITMQ_USER=//p' /etc/taskservice/service.env)
  password=$(sed -n 's/^RABBITMQ_PASSWORD=//p' /etc/taskservice/service.env)
  for host in $BROKER_HOSTS; do url="$url${url:+;}amqp://$user:$password@$host:5672//"; done
  printf 'CELERY_BROKER_URL=%s\n' "$url" >>/etc/taskservice/service.env
}

prepare_service() {
  install_packages
  write_environment /etc/taskservice/service.env
  printf '%s\n' "$SERVICE_ENVIRONMENT" >>/etc/taskservice/service.env
  add_broker_url
}
