"""Topology and Celery settings: exchanges, queues, acknowledgement, retries. Web, workers and Flower read the same.

Must not know the HTTP side nor what a task does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import amqp
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from taskservice.failover import FailoverAMQP
from taskservice.model import Priority
from taskservice.queues import WorkQueue, work_queues
from taskservice.settings import Settings

Role = Literal["web", "worker"]

BROKER_ERRORS = (amqp.exceptions.AMQPError, KombuError, OSError)  # what a publish or a declaration may end with

DELIVERY_LIMIT = 50  # the broker's backstop; the record counts lost deliveries long before
VISIBILITY_TIMEOUT_S = 86_400  # embedded broker only: longer than any delay and run together
DEAD_LETTER_INTAKE = "dead_letter_intake"
DEAD_LETTER = "dead_letter"

# A dead letter is moved at least once; that needs reject-publish, which without a max-length never rejects anything.
WORK_QUEUE_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD_LETTER_INTAKE,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def queue_of(work_queue: WorkQueue) -> Queue:
    """On its priority's exchange. Topic, not direct: Celery's delayed delivery passes direct exchanges by."""
    exchange = Exchange(work_queue.priority.queue, type="topic", durable=True)
    key, arguments = work_queue.routing_key, WORK_QUEUE_ARGUMENTS
    return Queue(work_queue.name, exchange, routing_key=key, queue_arguments=arguments)


def _dead_letter_queue(name: str) -> Queue:
    exchange = Exchange(name, type="topic", durable=True)
    return Queue(name, exchange, routing_key="#", queue_arguments={"x-queue-type": "quorum"})


WORK_QUEUES = tuple(queue_of(one) for one in work_queues())  # of the types that have none of their own
DEAD_LETTER_QUEUES = (_dead_letter_queue(DEAD_LETTER_INTAKE), _dead_letter_queue(DEAD_LETTER))


def make_celery(settings: Settings, *, role: Role) -> Celery:
    """The Celery application for one role. Opens no connection.

    Workers wait for the store for ever and acknowledge late; the web fails fast.
    """
    app = Celery("tasks", set_as_current=role == "worker", amqp=FailoverAMQP)
    # Not the setting `result_backend`: Celery lets the variable CELERY_RESULT_BACKEND override that one.
    app.backend_cls = f"taskservice.worker.backend:RecordBackend+{settings.result_backend}"
    app.conf.update(_common(settings))
    app.conf.update(_worker(settings) if role == "worker" else _web(settings))
    app.conf.broker_transport_options = _transport_options(settings, role)
    return app


def declare_topology(connection: Connection, queues: Iterable[Queue]) -> None:
    """Declare these work queues, and every exchange and binding, the delayed and the dead letters' too. Idempotent.

    Nothing is ever removed: messages may be in it. Raises amqp.PreconditionFailed when the broker has a queue of that
    name with other arguments.
    """
    queues = tuple(queues)
    is_amqp = connection.transport.driver_type == "amqp"
    if is_amqp:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    with connection.channel() as channel:
        for queue in queues + (DEAD_LETTER_QUEUES if is_amqp else ()):
            queue(channel).declare()
    if is_amqp:
        for queue in queues:
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)


def broker_delay_s(delay_s: float) -> int:
    """Whole seconds for the broker, rounded up: it refuses fractions under one, and nothing may start early."""
    return math.ceil(delay_s) if delay_s > 0 else 0


def _common(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": settings.broker_url,
        "result_expires": settings.result_retention_s,
        "task_queues": tuple(queue_of(one) for one in work_queues(settings.dedicated_task_types)),
        "dedicated_task_types": settings.dedicated_task_types,  # ours: whoever publishes chooses the queue by it
        "task_default_queue": Priority.NORMAL.queue,
        "task_default_exchange": Priority.NORMAL.queue,
        "task_default_exchange_type": "topic",
        "task_default_routing_key": Priority.NORMAL.value,
        "task_default_queue_type": "quorum",
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "task_send_sent_event": False,  # a second publish without a confirm's time-out
        "broker_connection_timeout": 2 if settings.has_several_brokers else 4,  # then a silent one is passed by sooner
        "broker_heartbeat": 20,
    }


def _worker(settings: Settings) -> dict[str, Any]:
    return {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "task_track_started": False,  # the claim does it, in the same round trip
        "task_store_errors_even_if_ignored": True,
        "worker_prefetch_multiplier": 1,
        # A task goes on without its connection: its lease keeps the redelivered message waiting until it has ended.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_consumer": "taskservice.worker.consumer:ServiceConsumer",
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "republish_after_s": _republish_after_s(settings),  # ours: worker/republisher.py
        "worker_soft_shutdown_timeout": settings.soft_shutdown_timeout_s,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "result_backend_always_retry": True,
        "result_backend_max_sleep_between_retries_ms": 2000,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 5,
    }


def _republish_after_s(settings: Settings) -> int:
    """Never with the embedded broker: what is delayed is in a worker's memory there, so no queue tells what is lost."""
    return 0 if settings.uses_embedded_broker else settings.republish_after_s


def _web(settings: Settings) -> dict[str, Any]:
    return {
        "result_backend_always_retry": False,
        "redis_socket_timeout": 2,
        "redis_socket_connect_timeout": 1,
        "broker_connection_timeout": 1 if settings.has_several_brokers else 2,  # two silent ones, and 3.5 s in all
    }


def _transport_options(settings: Settings, role: Role) -> dict[str, Any]:
    if settings.uses_embedded_broker:
        return {"visibility_timeout": VISIBILITY_TIMEOUT_S, "unacked_restore_interval": 2}
    if role == "worker":
        return {"confirm_publish": True}
    return {"read_timeout": 3, "write_timeout": 3}  # the publisher counts confirms itself
