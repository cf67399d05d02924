"""The way to the store: one Redis, or the primary that Sentinels name; writes that replicas are to have too.

Must not know what is kept there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

SENTINEL_PORT = 26379
_SHARE_TO_WAIT = 0.8  # of the time-out, so that the answer "too few replicas" comes before it
_SHARE_TO_ASK = 0.3  # of the time-out, for one Sentinel: when it is silent the others are asked
_FENCE = "replicated"
_READS = frozenset({
    "GET", "HGET", "HMGET", "HGETALL", "HSTRLEN", "EXISTS", "SMEMBERS", "PTTL", "TIME", "PING", "INFO", "XREAD",
    "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "SCRIPT LOAD",
})  # fmt: skip


class NotReplicated(redis.TimeoutError):
    """The write was made, but not enough replicas had it in time: a failover may forget it, so nothing is promised."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """What a store's URL says; settings.py writes such URLs, with what is beyond Celery's form as parameters."""

    url: str  # without those parameters
    sentinels: tuple[tuple[str, int], ...] = ()  # none: `url` is the Redis itself
    master_name: str = ""
    sentinel_password: str | None = None
    replicas_to_wait_for: int = 0

    @classmethod
    def parse(cls, url: str) -> StoreAddress:
        """Raises ValueError for a port that is none."""
        plain, _, query = url.partition("?")
        parameters = dict(parse_qsl(query))
        replicas = int(parameters.pop("replicas_to_wait_for", 0))
        if not plain.startswith("sentinel://"):
            rest = f"?{urlencode(parameters)}" if parameters else ""
            return cls(plain + rest, replicas_to_wait_for=replicas)
        hosts = (urlsplit(one) for one in plain.split(";"))
        return cls(
            plain,
            sentinels=tuple((str(host.hostname), host.port or SENTINEL_PORT) for host in hosts),
            master_name=parameters["master_name"],
            sentinel_password=parameters.get("sentinel_password"),
            replicas_to_wait_for=replicas,
        )


class _PrimaryConnection(SentinelManagedConnection):
    """Closes where redis-py's own goes on.

    After a time-out: or the next command would read the answer that came too late. After NOREPLICAS: a primary that
    nobody follows has perhaps been replaced, and reconnecting asks the Sentinels.
    """

    def read_response(self, disable_decoding: bool = False, **options: Any) -> Any:
        options.setdefault("disconnect_on_error", True)
        try:
            return super().read_response(disable_decoding, **options)
        except redis.ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError("the primary has too few replicas") from error


def open_client(url: str, *, timeout_s: float | None) -> redis.Redis:
    """A client that connects lazily, at first use, and anew to the next primary after a failover."""
    address = StoreAddress.parse(url)
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # One more try for a connection that the server has closed meanwhile; none for a server that hangs.
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    }
    pool = _sentinel_pool(address, options) if address.sentinels else _pool(address, options)
    if not address.replicas_to_wait_for:
        return redis.Redis.from_pool(pool)
    wait_ms = round(1000 * _SHARE_TO_WAIT * (timeout_s or 5))
    return ReplicatedRedis(pool, _Promise(address.replicas_to_wait_for, wait_ms))


def without_secrets(url: str) -> str:
    """The URL as logs may show it."""
    return re.sub(r"//[^/@;]*@", "//**@", url.partition("?")[0])


@dataclass(frozen=True, slots=True)
class _Promise:
    """How many replicas have to have a write, and how long that may take."""

    replicas: int
    wait_ms: int

    def keep(self, connection: Any) -> None:
        """Wait until they have what was written on this connection. Raises redis.RedisError.

        WAIT looks at this connection's last write alone, and to Redis 8 a command that changed nothing is none: after
        a transition that an unanswered try had made before, it would wait for nothing. So there is always a write.
        """
        connection.send_packed_command(
            connection.pack_commands([("SET", _FENCE, self.replicas), ("WAIT", self.replicas, self.wait_ms)])
        )
        try:
            connection.read_response()
            replicas = int(connection.read_response())
        except redis.ResponseError:
            connection.disconnect()  # another reply may still be on its way
            raise
        if replicas < self.replicas:
            connection.disconnect()  # perhaps nobody follows this primary any more: the next command asks the Sentinels
            raise NotReplicated(f"{replicas} of {self.replicas} replicas have it")


class ReplicatedRedis(redis.Redis):
    """Returns from a write when the replicas have it. It waits on the connection, so at the primary, of the write."""

    def __init__(self, pool: redis.ConnectionPool, promise: _Promise) -> None:
        super().__init__(connection_pool=pool)
        self._promise = promise

    def _send_command_parse_response(self, conn: Any, command_name: str, *args: Any, **options: Any) -> Any:
        answer = super()._send_command_parse_response(conn, command_name, *args, **options)  # type: ignore[no-untyped-call]
        if _writes(command_name):
            self._promise.keep(conn)
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> _ReplicatedPipeline:
        pipeline = _ReplicatedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.promise = self._promise
        return pipeline


class _ReplicatedPipeline(Pipeline):
    promise: _Promise

    def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: bool) -> list[Any]:
        answers = super()._execute_transaction(connection, commands, raise_on_error)
        self._keep(connection, commands)
        return answers

    def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> list[Any]:
        answers: list[Any] = super()._execute_pipeline(connection, commands, raise_on_error)  # type: ignore[no-untyped-call]
        self._keep(connection, commands)
        return answers

    def _keep(self, connection: Any, commands: Iterable[Any]) -> None:
        if any(_writes(arguments[0]) for arguments, _ in commands):
            self.promise.keep(connection)


def _pool(address: StoreAddress, options: dict[str, Any]) -> redis.ConnectionPool:
    return redis.ConnectionPool.from_url(address.url, **options)


def _sentinel_pool(address: StoreAddress, options: dict[str, Any]) -> SentinelConnectionPool:
    first = urlsplit(address.url.split(";")[0])  # login and database are the Redis', as Celery reads such a URL
    ask_s = _SHARE_TO_ASK * (options["socket_timeout"] or 5)
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        sentinel_kwargs={
            "password": address.sentinel_password,
            "socket_timeout": ask_s,
            "socket_connect_timeout": ask_s,
            "retry": Retry(NoBackoff(), 0),
        },
    )
    last = urlsplit(address.url.split(";")[-1])
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        address.master_name,
        sentinels,
        username=unquote(first.username or "") or None,
        password=unquote(first.password or "") or None,
        db=int(first.path.strip("/") or last.path.strip("/") or 0),
        connection_class=_PrimaryConnection,
        **options,
    )


def _writes(command: str) -> bool:
    """What is not known to read is waited for."""
    return command.upper() not in _READS
