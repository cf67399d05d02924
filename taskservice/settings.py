"""The only reader of the environment: strict, once, and every complaint names the variable.

Must not import anything that connects to anything.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from taskservice.context import MailServer
from taskservice.environment import Environment, is_url
from taskservice.errors import ConfigurationError
from taskservice.model import RateLimit

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything two deployments may differ in. `.env.example` describes each variable."""

    broker_url: str  # of several nodes, separated by ;
    management_url: str | None  # of RabbitMQ's management API, with a login
    result_backend: str
    bind_address: str  # where the service is published
    listen_address: str  # where gunicorn listens: another one only in a container
    allowed_hosts: frozenset[str]  # names besides loopback's; only asked for while there is no key
    trusted_proxies: int  # how many stand in front and may say who called
    api_rate_limit: RateLimit  # of a key that has none of its own
    debug: bool
    initial_retry_delay_s: int
    max_retry_delay_s: int
    soft_shutdown_timeout_s: int
    result_retention_s: int
    republish_after_s: int  # 0: never
    task_type_modules: tuple[str, ...]
    rate_limits: Mapping[str, RateLimit]  # by task type; replaces what the type says
    dedicated_task_types: tuple[str, ...]  # each has queues of its own
    files_url: str
    max_upload_bytes: int
    mail_server: MailServer
    webhooks_allow_http: bool  # to private addresses too; only where nobody else can reach the service
    log_level: str

    @property
    def uses_embedded_broker(self) -> bool:
        """True when the broker is Redis-compatible: weaker promises, see DOC/operations.md."""
        return self.broker_url.startswith("redis")

    @property
    def has_several_brokers(self) -> bool:
        return ";" in self.broker_url

    @property
    def virtual_host(self) -> str:
        """RabbitMQ's."""
        return unquote(urlsplit(self.broker_url.split(";")[0]).path.removeprefix("/")) or "/"

    @property
    def binds_loopback_only(self) -> bool:
        return _is_loopback(self.bind_address)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment (`os.environ` unless given). Raises ConfigurationError for the first value that is wrong."""
    read = Environment(os.environ if environ is None else environ)
    return Settings(
        broker_url=_broker_url(read),
        management_url=_management_url(read),
        result_backend=_result_backend(read),
        bind_address=_address(read, "BIND_ADDRESS", "127.0.0.1"),
        listen_address=_address(read, "LISTEN_ADDRESS", _address(read, "BIND_ADDRESS", "127.0.0.1")),
        allowed_hosts=_allowed_hosts(read),
        trusted_proxies=read.integer("TRUSTED_PROXIES", default=0, low=0, high=10),
        api_rate_limit=_api_rate_limit(read),
        debug=read.flag("FLASK_DEBUG", default=False),
        initial_retry_delay_s=read.integer("INITIAL_RETRY_DELAY", default=1, low=1, high=3600),
        max_retry_delay_s=read.integer("MAX_RETRY_DELAY", default=60, low=1, high=86_400),
        soft_shutdown_timeout_s=read.integer("SOFT_SHUTDOWN_TIMEOUT", default=20, low=1, high=3600),
        result_retention_s=read.integer("RESULT_RETENTION", default=7 * 86_400, low=60, high=366 * 86_400),
        republish_after_s=_republish_after(read),
        task_type_modules=read.names("TASK_TYPE_MODULES"),
        rate_limits=_rate_limits(read),
        dedicated_task_types=read.names("DEDICATED_TASK_TYPES"),
        files_url=read.text("FILES_URL") or str(Path(tempfile.gettempdir()) / "taskservice-files"),
        max_upload_bytes=read.integer("MAX_UPLOAD_BYTES", default=50 * 2**20, low=1, high=5 * 2**30),
        mail_server=_mail_server(read),
        webhooks_allow_http=_webhooks_allow_http(read),
        log_level=read.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO"),
    )


def _broker_url(read: Environment) -> str:
    """One URL, or those of a cluster's nodes in Celery's form."""
    user = quote(read.text("RABBITMQ_USER", "guest"), safe="")
    password = quote(read.secret("RABBITMQ_PASSWORD") or "guest", safe="")
    port = read.integer("RABBITMQ_PORT", default=5672, low=1, high=65_535)
    hosts = read.names("RABBITMQ_HOST") or ("localhost",)
    text = read.secret("CELERY_BROKER_URL") or ";".join(f"amqp://{user}:{password}@{host}:{port}//" for host in hosts)
    urls = [url.strip() for url in text.split(";")]
    schemes = ("amqp", "amqps") if len(urls) > 1 else ("amqp", "amqps", "redis", "rediss")
    for place, url in enumerate(urls, 1):
        if not is_url(url, schemes):  # the value may hold a password, so it is not repeated
            name = "CELERY_BROKER_URL" if read.secret("CELERY_BROKER_URL") else "RABBITMQ_HOST"
            which = f", URL {place} of {len(urls)}" if len(urls) > 1 else ""
            raise ConfigurationError(
                f"{name}{which}: expected amqp://user:password@host:port/vhost, or several separated by ;"
            )
    return ";".join(urls)


def _management_url(read: Environment) -> str | None:
    """With the broker's own login unless it names one."""
    text = read.secret("RABBITMQ_MANAGEMENT_URL")
    if not text:
        return None
    url = read.url("RABBITMQ_MANAGEMENT_URL", ("http", "https"), str)
    login, _, _ = urlsplit(_broker_url(read).split(";")[0]).netloc.rpartition("@")
    parts = urlsplit(url)
    return url if "@" in parts.netloc or not login else parts._replace(netloc=f"{login}@{parts.netloc}").geturl()


def _result_backend(read: Environment) -> str:
    """Celery's form, and as parameters what is not in it: records/connection.py reads them."""

    def from_parts() -> str:
        port = read.integer("REDIS_PORT", default=6379, low=1, high=65_535)
        password = read.secret("REDIS_PASSWORD")
        login = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{login}{read.text('REDIS_HOST', 'localhost')}:{port}/0"

    master_name = read.text("REDIS_SENTINEL_MASTER", "mymaster")
    sentinel_password = read.secret("REDIS_SENTINEL_PASSWORD")
    replicas = read.integer("REDIS_REPLICAS_TO_WAIT_FOR", default=0, low=0, high=5)
    text = read.secret("CELERY_RESULT_BACKEND") or from_parts()
    parameters: dict[str, str | int] = {}
    if text.startswith("sentinel:"):
        _check_sentinels(text)
        parameters = {"master_name": master_name}
        parameters |= {"sentinel_password": sentinel_password} if sentinel_password else {}
    else:
        text = read.url("CELERY_RESULT_BACKEND", ("redis", "rediss"), from_parts)
    parameters |= {"replicas_to_wait_for": replicas} if replicas else {}
    return f"{text}{'&' if '?' in text else '?'}{urlencode(parameters)}" if parameters else text


def _check_sentinels(text: str) -> None:
    try:
        parts = [urlsplit(one) for one in text.split(";")]
        usable = all(one.scheme == "sentinel" and one.hostname and one.port != 0 and not one.query for one in parts)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "CELERY_RESULT_BACKEND: expected sentinel://:password@host:port;sentinel://host:port;… "
            "with the password of Redis"
        )


def _address(read: Environment, name: str, default: str) -> str:
    text = read.text(name, default)
    if text != "localhost":
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise ConfigurationError(f"{name}={text!r}: expected an IP address such as 127.0.0.1") from error
    return text


def _allowed_hosts(read: Environment) -> frozenset[str]:
    names = {name.strip().lower() for name in read.text("ALLOWED_HOSTS").split(",") if name.strip()}
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ConfigurationError(f"ALLOWED_HOSTS={name!r}: expected host names without port, such as tasks.example")
    return frozenset(names)


def _api_rate_limit(read: Environment) -> RateLimit:
    text = read.text("API_RATE_LIMIT", "6000/m")
    try:
        return RateLimit.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"API_RATE_LIMIT: {error}") from error


_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9])?")


def _is_loopback(bind_address: str) -> bool:
    return bind_address == "localhost" or ipaddress.ip_address(bind_address).is_loopback


def _webhooks_allow_http(read: Environment) -> bool:
    """A stranger's callback could otherwise reach what only this machine reaches."""
    is_allowed = read.flag("WEBHOOKS_ALLOW_HTTP", default=False)
    if is_allowed and not _is_loopback(_address(read, "BIND_ADDRESS", "127.0.0.1")):
        raise ConfigurationError(
            "WEBHOOKS_ALLOW_HTTP=1: only where BIND_ADDRESS is a loopback address, or leave it at 0"
        )
    return is_allowed


def _republish_after(read: Environment) -> int:
    """Sooner than a message travels, every task would be published twice."""
    seconds = read.integer("REPUBLISH_AFTER", default=60, low=0, high=86_400)
    if 0 < seconds < 5:
        raise ConfigurationError(f"REPUBLISH_AFTER={seconds}: expected 0 (never), or a whole number from 5 to 86400")
    return seconds


def _rate_limits(read: Environment) -> dict[str, RateLimit]:
    limits = {}
    for one in filter(None, (part.strip() for part in read.text("RATE_LIMITS").split(","))):
        name, _, rate = one.partition("=")
        try:
            limits[name.strip()] = RateLimit.parse(rate)
        except ValueError as error:
            raise ConfigurationError(f"RATE_LIMITS={one!r}: expected TYPE=RATE; {error}") from error
    return limits


def _mail_server(read: Environment) -> MailServer:
    security = read.choice("SMTP_SECURITY", ("none", "starttls", "tls"), default="none")
    return MailServer(
        host=read.text("SMTP_HOST", "localhost"),
        port=read.integer("SMTP_PORT", default=1025, low=1, high=65_535),
        sender=read.text("SMTP_FROM", "tasks@localhost"),
        security=security,
        username=read.text("SMTP_USER") or None,
        password=read.secret("SMTP_PASSWORD") or None,
        timeout_s=read.integer("SMTP_TIMEOUT", default=20, low=1, high=600),
    )
