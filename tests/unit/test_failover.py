"""Which node of a broker a new connection begins with."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import OperationalError

from taskservice.failover import FailoverConnection
from taskservice.local.ports import choose_port


def nodes(count: int) -> list[str]:
    """Where nobody listens."""
    return [f"amqp://guest:guest@127.0.0.1:{choose_port()}//" for _ in range(count)]


def tried(connection: Any, **options: Any) -> list[int]:
    """The ports, in the order in which they were asked."""
    ports: list[int] = []
    with pytest.raises(OperationalError):
        connection.ensure_connection(
            lambda *_: ports.append(connection.port), interval_start=0, interval_step=0, **options
        )
    return [*ports, connection.port]


def test_one_retry_asks_every_node_twice() -> None:
    urls = nodes(3)
    ports = [int(url.split(":")[-1].strip("/")) for url in urls]

    assert tried(FailoverConnection(";".join(urls)), max_retries=1) == ports * 2


def test_a_new_connection_does_not_begin_where_the_last_one_failed() -> None:
    urls = nodes(3)
    first = FailoverConnection(";".join(urls))
    with pytest.raises(OSError, match="refused"):
        first._establish_connection()

    second = FailoverConnection(";".join(urls))
    clone = second.clone()

    ports = [int(url.split(":")[-1].strip("/")) for url in urls]
    assert (first.port, second.port, clone.port) == (ports[0], ports[1], ports[1])
    assert second.alt == [urls[1], urls[2], urls[0]]


def test_one_broker_is_kombus_own_business() -> None:
    (url,) = nodes(1)

    connection = FailoverConnection(url)

    assert (connection.alt, connection.cycle) == ([], None)
    assert len(tried(connection, max_retries=1)) == 2
