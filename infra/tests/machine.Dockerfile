# A clean Debian machine as far as a container can be one: systemd runs it, and nothing else is there yet.
ARG BASE=debian:13
FROM ${BASE} AS machine
ENV container=docker DEBIAN_FRONTEND=noninteractive
# Packages that tests install are fetched here, once, and not installed; a distribution may not have all of them.
RUN rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update -q \
 && apt-get install -q -y --no-install-recommends systemd systemd-sysv dbus \
 && for name in docker.io docker-cli docker-compose docker-compose-v2 caddy awscli git procps curl ca-certificates; do \
      apt-get install -q -y -d --no-install-recommends "$name" || true; done
STOPSIGNAL SIGRTMIN+3
# The argument lets systemd start where the host still has the old control groups.
CMD ["/lib/systemd/systemd", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]

# Another one that has Docker already, to put images on a disk before the machine under test gets it.
FROM machine AS filler
RUN apt-get install -q -y --no-install-recommends docker.io && { command -v docker || apt-get install -q -y --no-install-recommends docker-cli; }
