"""What a machine does at its first boot: the scripts in boot/, with their variables in front.

Must not know Pulumi; plain text in, plain text out, and never a secret.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BOOT = Path(__file__).parent / "boot"
MAX_BYTES = 16_384  # what EC2 takes


@dataclass(frozen=True, slots=True)
class Site:
    """What every machine needs to know of its fleet."""

    region: str
    parameter_path: str  # where Parameter Store keeps this role's secrets
    broker_hosts: tuple[str, ...]


def broker(site: Site, *, host: str, image: str, metric_namespace: str, data_volume: str = "") -> str:
    """For the RabbitMQ node called `host`, one of the site's. Without a volume the data is on the root disk."""
    variables = {
        "BROKER_HOST": host,
        "BROKER_IMAGE": image,
        "METRIC_NAMESPACE": metric_namespace,
        "DATA_VOLUME": data_volume,
    }
    return _render(site, variables, "broker.sh")


def store(site: Site, *, image: str, data_volume: str = "") -> str:
    return _render(site, {"STORE_IMAGE": image, "DATA_VOLUME": data_volume}, "store.sh")


def web(site: Site, *, image: str, environment: Mapping[str, str]) -> str:
    return _render(site, _service(image, environment), "service.sh", "web.sh")


def worker(
    site: Site, *, image: str, environment: Mapping[str, str], name: str, queues: tuple[str, ...], concurrency: int
) -> str:
    variables = {"WORKER_NAME": name, "QUEUES": ",".join(queues), "CONCURRENCY": str(concurrency)}
    return _render(site, _service(image, environment) | variables, "service.sh", "worker.sh")


def service_environment(
    *, bucket: str, store_host: str, region: str, dedicated: tuple[str, ...], extra: Mapping[str, str]
) -> dict[str, str]:
    """The settings of .env.example that are the same for the web and the workers; `extra` wins."""
    return {
        "REDIS_HOST": store_host,
        "FILES_URL": f"s3://{bucket}/files",
        "AWS_DEFAULT_REGION": region,
        # The balancer reaches the machine, so the service must know that it is not alone and insist on API keys.
        "BIND_ADDRESS": "0.0.0.0",  # noqa: S104  # the security group lets only the balancer in
        "TRUSTED_PROXIES": "1",  # the balancer
        "DEDICATED_TASK_TYPES": ",".join(dedicated),
        **extra,
    }


def _service(image: str, environment: Mapping[str, str]) -> dict[str, str]:
    lines = [f"{name}={value}" for name, value in sorted(environment.items())]
    if any("\n" in line for line in lines):
        raise ValueError("environment: a value has a line break, which docker's --env-file cannot hold")
    return {"SERVICE_IMAGE": image, "SERVICE_ENVIRONMENT": "\n".join(lines)}


def _render(site: Site, variables: Mapping[str, str], *scripts: str) -> str:
    """Raises ValueError when EC2 would not take it."""
    known = {
        "AWS_REGION": site.region,
        "PARAMETER_PATH": site.parameter_path,
        "BROKER_HOSTS": " ".join(site.broker_hosts),
        **variables,
    }
    assignments = [f"{name}={shlex.quote(value)}" for name, value in known.items()]
    parts = [(BOOT / script).read_text(encoding="utf-8") for script in ("machine.sh", *scripts)]
    text = "\n".join(["#!/bin/bash", *assignments, *parts])
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"user data of {scripts[-1]} has {len(text.encode())} bytes, EC2 takes {MAX_BYTES}")
    return text
