"""The worker spine: the Celery application and one named task per type. Start it with `celery -A tasks worker`.

Never imports app.py; the web publishes by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from amqp.exceptions import PreconditionFailed
from celery.signals import celeryd_init, setup_logging, worker_init

from celery_config import WORK_QUEUES, declare_topology, make_celery
from taskservice.files import FsspecFileStore
from taskservice.handlers import load_task_types
from taskservice.settings import load_settings
from taskservice.worker.backend import RecordBackend
from taskservice.worker.consumer import PauseStep, TopologyStep
from taskservice.worker.keeper import KeeperStep
from taskservice.worker.leftovers import LeftoversStep
from taskservice.worker.outbox import OutboxStep
from taskservice.worker.reaper import ReaperStep
from taskservice.worker.republisher import RepublisherStep
from taskservice.worker.task import task_class_for
from taskservice.worker.tidier import tidier_step

settings = load_settings()

MAX_RETRIES = 3  # of a type that does not say otherwise
INITIAL_RETRY_DELAY = settings.initial_retry_delay_s
MAX_RETRY_DELAY = settings.max_retry_delay_s


def get_retry_delay(retries: int, longest_s: int | None = None) -> int:
    """Seconds to wait after `retries` earlier retries: 1, 2, 4 … up to MAX_RETRY_DELAY, or what the type says."""
    return min(INITIAL_RETRY_DELAY << retries, longest_s or MAX_RETRY_DELAY)


def open_files() -> FsspecFileStore:
    return FsspecFileStore(settings.files_url, max_upload_bytes=settings.max_upload_bytes)


celery = make_celery(settings, role="worker")
celery.steps["worker"].update(
    {KeeperStep, LeftoversStep, ReaperStep, OutboxStep, RepublisherStep, tidier_step(open_files)}
)
celery.steps["consumer"].update({PauseStep, TopologyStep})

for kind in load_task_types(
    settings.task_type_modules,
    settings.rate_limits,
    dedicated=settings.dedicated_task_types,
    with_internal=True,
).values():
    celery.register_task(
        task_class_for(kind, settings=settings, open_files=open_files, retry_delay_s=get_retry_delay)()
    )


@setup_logging.connect
def configure_logging(**_: Any) -> None:
    """One line per event on standard error, where containers and `make run` collect it."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # below that it logs whole results


@celeryd_init.connect
def check_queues(options: Mapping[str, Any], **_: Any) -> None:
    """Celery's own complaint about an unknown queue proposes a setting that would make a queue of another kind."""
    chosen = options.get("queues") or ()
    names = chosen.split(",") if isinstance(chosen, str) else chosen
    known = [queue.name for queue in celery.conf.task_queues]
    for name in filter(lambda one: one not in known, names):
        raise SystemExit(
            f"-Q {name}: there is no such queue; DEDICATED_TASK_TYPES={','.join(settings.dedicated_task_types)!r} "
            f"makes these: {', '.join(known)}"
        )


def _broker_is_away(error: Exception, wait_s: float) -> None:
    logging.getLogger(__name__).warning("broker.unreachable cause=%s next_try_s=%d", error, wait_s)


@worker_init.connect
def check_before_work(sender: Any = None, **_: Any) -> None:
    """Say what reduced capacity means; refuse to run without result-backend retries."""
    logger = logging.getLogger(__name__)
    if not cast(RecordBackend, celery.backend).connection_errors:
        raise SystemExit("the result backend cannot retry: install celery[redis], which brings `packaging`")
    selected = set(sender.app.amqp.queues.consume_from)
    if selected >= {queue.name for queue in WORK_QUEUES}:
        logger.warning("worker.shared: one worker for all priorities reserves no capacity for high tasks")
    with celery.connection_for_write() as connection:
        if connection.transport.driver_type != "amqp":
            return
        connection.ensure_connection(_broker_is_away, interval_start=1, interval_step=1, interval_max=5)
        try:
            declare_topology(connection, celery.conf.task_queues)
        except PreconditionFailed as error:
            raise SystemExit(
                f"the broker has a queue or exchange of this name with other arguments: {error}"
            ) from error
