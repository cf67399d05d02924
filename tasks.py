"""The worker spine: the Celery application and one named task per type. Start it with `celery -A tasks worker`.

Never imports app.py; the web publishes by name.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from amqp.exceptions import PreconditionFailed
from celery.signals import setup_logging, worker_init
from kombu import Connection

from celery_config import WORK_QUEUES, declare_topology, make_celery
from taskservice.files import FsspecFileStore
from taskservice.handlers import load_task_types
from taskservice.model import FileStore
from taskservice.settings import load_settings
from taskservice.worker.backend import RecordBackend
from taskservice.worker.consumer import PauseStep
from taskservice.worker.keeper import KeeperStep
from taskservice.worker.outbox import OutboxStep
from taskservice.worker.reaper import ReaperStep
from taskservice.worker.task import task_class_for

settings = load_settings()

MAX_RETRIES = 3  # of a type that does not say otherwise
INITIAL_RETRY_DELAY = settings.initial_retry_delay_s
MAX_RETRY_DELAY = settings.max_retry_delay_s


def get_retry_delay(retries: int, longest_s: int | None = None) -> int:
    """Seconds to wait after `retries` earlier retries: 1, 2, 4 … up to MAX_RETRY_DELAY, or what the type says."""
    return min(INITIAL_RETRY_DELAY << retries, longest_s or MAX_RETRY_DELAY)


def open_files() -> FileStore:
    return FsspecFileStore(settings.files_url, max_upload_bytes=settings.max_upload_bytes)


celery = make_celery(settings, role="worker")
celery.steps["worker"].update({KeeperStep, ReaperStep, OutboxStep})
celery.steps["consumer"].add(PauseStep)

for kind in load_task_types(settings.task_type_modules, settings.rate_limits, with_internal=True).values():
    celery.register_task(
        task_class_for(kind, settings=settings, open_files=open_files, retry_delay_s=get_retry_delay)()
    )


@setup_logging.connect
def configure_logging(**_: Any) -> None:
    """One line per event on standard error, where containers and `make run` collect it."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # below that it logs whole results


def _broker_is_away(error: Exception, wait_s: float) -> None:
    logging.getLogger(__name__).warning("broker.unreachable cause=%s next_try_s=%d", error, wait_s)


@worker_init.connect
def check_before_work(sender: Any = None, **_: Any) -> None:
    """Say what reduced capacity means; refuse to run without result-backend retries."""
    logger = logging.getLogger(__name__)
    if not cast(RecordBackend, celery.backend).connection_errors:
        raise SystemExit("the result backend cannot retry: install celery[redis], which brings `packaging`")
    selected = set(sender.app.amqp.queues.consume_from)
    if selected == {queue.name for queue in WORK_QUEUES}:
        logger.warning("worker.shared: one worker for all priorities reserves no capacity for high tasks")
    with Connection(settings.broker_url) as connection:
        if connection.transport.driver_type != "amqp":
            return
        connection.ensure_connection(_broker_is_away, interval_start=1, interval_step=1, interval_max=5)
        try:
            declare_topology(connection)
        except PreconditionFailed as error:
            raise SystemExit(
                f"the broker has a queue or exchange of this name with other arguments: {error}"
            ) from error
