#!/bin/bash
# cloud-init runs this once, as root, at a machine's first boot; it only fetches the checkout and calls setup.sh.
# Fill in the three lines below. Its output is in /var/log/cloud-init-output.log.
set -euo pipefail

REPOSITORY=
REF=main
DOMAIN=

[ -n "$REPOSITORY" ] || { echo "user-data.sh: REPOSITORY is empty: expected the address of a clone" >&2 && exit 1; }
export DEBIAN_FRONTEND=noninteractive
# Right after the start the network or another apt-get may be in the way.
for _ in $(seq 30); do
  if apt-get -q update && apt-get -q install -y --no-install-recommends git ca-certificates; then break; fi
  sleep 5
done
[ -d /opt/taskservice ] || git clone --branch "$REF" "$REPOSITORY" /opt/taskservice
/opt/taskservice/infra/instance/setup.sh ${DOMAIN:+--domain "$DOMAIN"}
