"""What two fleets may differ in: types, defaults and what is refused. Pulumi.yaml declares the plain ones for the tool.

Must not create anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pulumi

WORLD = ("0.0.0.0/0", "::/0")
PRIORITIES = ("high", "normal", "low")

_TASK_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_INSTANCE_TYPE = re.compile(r"t[0-9][a-z]*\.[a-z0-9]+")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_MOST_WORKERS = 50


class ConfigError(ValueError):
    """A setting that makes no sense; the message names it, its value and what was expected."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """One auto-scaling group. It grows while more than `backlog_per_machine` tasks wait for each machine."""

    minimum: int = 1
    maximum: int = 3
    instance_type: str = "t3.small"
    concurrency: int = 4
    backlog_per_machine: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum <= _MOST_WORKERS:
            raise ConfigError(
                f"workers: minimum {self.minimum}, maximum {self.maximum}: "
                f"expected 1 <= minimum <= maximum <= {_MOST_WORKERS}, "
                "because a queue without a consumer makes the service not ready"
            )
        if self.concurrency < 1 or self.backlog_per_machine < 1:
            raise ConfigError("workers: concurrency and backlogPerMachine: expected at least 1")
        _require_t_class("workers: instanceType", self.instance_type)


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """The whole configuration, already valid. Nothing after this checks it again."""

    stack: str = "dev"
    region: str = "ap-southeast-1"
    allowed_cidrs: tuple[str, ...] = ()
    certificate_arn: str = ""
    brokers: int = 1
    broker_instance_type: str = "t3.small"
    broker_volume_gib: int = 20
    broker_image: str = "rabbitmq:4-management"
    store_instance_type: str = "t3.small"
    store_volume_gib: int = 20
    store_image: str = "redis:8"
    web_instance_type: str = "t3.small"
    web_minimum: int = 2
    web_maximum: int = 4
    image_tag: str = "latest"
    ami_id: str = ""
    ssh_key_name: str = ""
    workers: dict[str, WorkerGroup] = field(default_factory=lambda: {name: WorkerGroup() for name in PRIORITIES})
    dedicated: dict[str, WorkerGroup] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.brokers not in (1, 3):
            raise ConfigError(f"brokers={self.brokers}: expected 1 or 3; two nodes have no majority without each other")
        if not 1 <= self.web_minimum <= self.web_maximum:
            raise ConfigError(
                f"webMinimum={self.web_minimum}, webMaximum={self.web_maximum}: expected 1 <= minimum <= maximum"
            )
        if set(self.workers) != set(PRIORITIES):
            raise ConfigError(f"workers: expected exactly {', '.join(PRIORITIES)}, because each queue needs a consumer")
        for name in self.dedicated:
            if not _TASK_TYPE.fullmatch(name):
                raise ConfigError(f"dedicated: {name!r}: expected the name of a task type, such as email_sending")
        _require_names("environment", self.environment)
        for setting, value in self._instance_types():
            _require_t_class(setting, value)
        self._check_cidrs()

    @property
    def prefix(self) -> str:
        """In front of every name, so that two stacks fit into one account."""
        return f"taskservice-{self.stack}"

    @property
    def zones(self) -> tuple[str, ...]:
        """A balancer needs two; three brokers get one each."""
        return tuple(f"{self.region}{letter}" for letter in "abc"[: max(2, self.brokers)])

    @property
    def broker_hosts(self) -> tuple[str, ...]:
        return tuple(f"broker-{number}.{self.domain}" for number in range(1, self.brokers + 1))

    @property
    def store_host(self) -> str:
        return f"store.{self.domain}"

    @property
    def domain(self) -> str:
        """Of the private zone: only this network resolves it."""
        return f"{self.stack}.taskservice.internal"

    @property
    def serves_https(self) -> bool:
        return bool(self.certificate_arn)

    def _instance_types(self) -> list[tuple[str, str]]:
        return [
            ("brokerInstanceType", self.broker_instance_type),
            ("storeInstanceType", self.store_instance_type),
            ("webInstanceType", self.web_instance_type),
        ]

    def _check_cidrs(self) -> None:
        if not self.allowed_cidrs:
            raise ConfigError('allowedCidrs is empty: name who may reach the balancer, such as ["203.0.113.7/32"]')
        for cidr in self.allowed_cidrs:
            try:
                ipaddress.IPv4Network(cidr)
            except ValueError as error:
                raise ConfigError(f"allowedCidrs: {cidr!r}: expected an IPv4 network such as 203.0.113.0/24") from error
        if not self.serves_https and set(self.allowed_cidrs) & set(WORLD):
            raise ConfigError(
                "allowedCidrs has 0.0.0.0/0 without certificateArn: API keys would cross the internet unencrypted"
            )


def read_config(config: pulumi.Config, *, stack: str) -> FleetConfig:
    """The stack's configuration. Raises ConfigError for the first value that is wrong."""
    defaults = FleetConfig(allowed_cidrs=("192.0.2.0/24",))
    return FleetConfig(
        stack=stack,
        region=pulumi.Config("aws").get("region") or defaults.region,  # the provider reads the same
        allowed_cidrs=tuple(config.get_object("allowedCidrs") or ()),
        certificate_arn=config.get("certificateArn") or defaults.certificate_arn,
        brokers=config.get_int("brokers") or defaults.brokers,
        broker_instance_type=config.get("brokerInstanceType") or defaults.broker_instance_type,
        broker_volume_gib=config.get_int("brokerVolumeGib") or defaults.broker_volume_gib,
        broker_image=config.get("brokerImage") or defaults.broker_image,
        store_instance_type=config.get("storeInstanceType") or defaults.store_instance_type,
        store_volume_gib=config.get_int("storeVolumeGib") or defaults.store_volume_gib,
        store_image=config.get("storeImage") or defaults.store_image,
        web_instance_type=config.get("webInstanceType") or defaults.web_instance_type,
        web_minimum=config.get_int("webMinimum") or defaults.web_minimum,
        web_maximum=config.get_int("webMaximum") or defaults.web_maximum,
        image_tag=config.get("imageTag") or defaults.image_tag,
        ami_id=config.get("amiId") or defaults.ami_id,
        ssh_key_name=config.get("sshKeyName") or defaults.ssh_key_name,
        workers=defaults.workers | _groups(config.get_object("workers"), setting="workers"),
        dedicated=_groups(config.get_object("dedicated"), setting="dedicated"),
        environment=_texts(config.get_object("environment"), setting="environment"),
    )


def read_secret_environment(config: pulumi.Config) -> dict[str, pulumi.Output[str]]:
    """Settings that only Parameter Store and the service may see, set with `pulumi config set --secret --path`."""
    values = _texts(config.get_object("secretEnvironment"), setting="secretEnvironment")
    _require_names("secretEnvironment", values)
    return {name: pulumi.Output.secret(value) for name, value in values.items()}


_GROUP_MEMBERS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "instanceType": "instance_type",
    "concurrency": "concurrency",
    "backlogPerMachine": "backlog_per_machine",
}


def _groups(value: Any, *, setting: str) -> dict[str, WorkerGroup]:
    return {name: _group(members, setting=f"{setting}.{name}") for name, members in _mapping(value, setting).items()}


def _group(value: Any, *, setting: str) -> WorkerGroup:
    members = _mapping(value, setting)
    unknown = set(members) - set(_GROUP_MEMBERS)
    if unknown:
        raise ConfigError(f"{setting}: unknown {', '.join(sorted(unknown))}; expected {', '.join(_GROUP_MEMBERS)}")
    for name, member in members.items():
        expected = str if name == "instanceType" else int
        if not isinstance(member, expected) or isinstance(member, bool):
            raise ConfigError(
                f"{setting}.{name}={member!r}: expected {'a text' if expected is str else 'a whole number'}"
            )
    return WorkerGroup(**{_GROUP_MEMBERS[name]: member for name, member in members.items()})


def _texts(value: Any, *, setting: str) -> dict[str, str]:
    return {name: str(text) for name, text in _mapping(value, setting).items()}


def _mapping(value: Any, setting: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{setting}={value!r}: expected an object")
    return value


def _require_names(setting: str, names: Iterable[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{setting}: {name!r}: expected a name of .env.example, such as SMTP_HOST")


def _require_t_class(setting: str, value: str) -> None:
    if not _INSTANCE_TYPE.fullmatch(value):
        raise ConfigError(
            f"{setting}={value!r}: expected a t-class size such as t3.small; others cost more than this is meant to"
        )
