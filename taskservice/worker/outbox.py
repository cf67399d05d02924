"""The outbox: changes that clients want to hear of become tasks of type webhook_delivery.

A thread of each worker's main process, on connections of its own. Must not know how a webhook is sent.
"""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import redis
from celery import Celery, bootsteps
from kombu import Connection

from taskservice.handlers.webhook_delivery.body import webhook_body
from taskservice.handlers.webhook_delivery.parameters import DeliveryParameters, delivery_task
from taskservice.model import Submission
from taskservice.records import Attempts, Posted, Records
from taskservice.records.deliveries import Delivery, DeliveryLog
from taskservice.records.script import connect
from taskservice.worker.backend import RecordBackend
from taskservice.worker.threads import BrokerThread, Publish

logger = logging.getLogger(__name__)

LOOK_S = 0.5
MAX_TRIES = 10  # of a change that cannot be made a webhook: about five minutes
HOLD_S = 30.0  # usually longer than publishing what was taken; else another worker publishes the same deliveries
STORE_TIMEOUT_S = 2.0

# What a record that is damaged, or of another version, ends in while it is read and written out.
UNUSABLE = (LookupError, TypeError, ValueError, AttributeError)


class Outbox:
    """Publishes what was posted. Every method raises redis.RedisError, Unavailable."""

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self._attempts = Attempts(client, retention_s=retention_s)
        self._records = Records(client, retention_s=retention_s)
        self._log = DeliveryLog(client)

    def empty(self, publish: Publish) -> bool:
        """Publish some of it; False when nothing waited. What fails comes again after HOLD_S.

        Raises what `publish` raises.
        """
        taken = self._attempts.take_outbox(hold_s=HOLD_S)
        for posted in taken:
            try:
                known = self._records.get(posted.delivery_id)
                submission = known.submission if known else self._written(posted)
            except UNUSABLE as error:  # the others must not wait for it
                self._put_off(posted, error)
            else:
                self._deliver(posted, submission, publish if known is None or not known.attempts else None)
        return bool(taken)

    def _deliver(self, posted: Posted, submission: Submission | None, publish: Publish | None) -> None:
        """Publish, record, log, clear: a crash anywhere between repeats it, with the same id and body."""
        if submission is None:
            logger.warning("webhook.dropped task_id=%s event=%s cause=task_gone", posted.task_id, posted.event)
        else:
            if publish is not None:
                publish(submission)
            self._records.accept(submission)
            self._log.add(posted.task_id, Delivery(posted.delivery_id, posted.event, posted.delivery_id))
        self._attempts.clear_outbox(posted)

    def _put_off(self, posted: Posted, error: Exception) -> None:
        """It comes again after HOLD_S, MAX_TRIES times in all."""
        tries = self._attempts.count_outbox_try(posted)
        logger.error(
            "webhook.unpublished task_id=%s event=%s tries=%d", posted.task_id, posted.event, tries, exc_info=error
        )
        if tries >= MAX_TRIES:
            logger.error("webhook.dropped task_id=%s event=%s cause=unusable", posted.task_id, posted.event)
            self._attempts.clear_outbox(posted)

    def _written(self, posted: Posted) -> Submission | None:
        """The delivery as a task; None when the task it tells of is not kept any more."""
        record = self._records.get(posted.task_id)
        if record is None or record.submission.callback is None:
            return None
        nth = sum(one.event == posted.event and not one.is_replay for one in self._log.of_task(posted.task_id))
        parameters = DeliveryParameters(
            url=record.submission.callback.url,
            webhook_id=posted.delivery_id,
            body=webhook_body(record, posted.event, nth=nth),
            key_id=record.submission.key_id,
        )
        return delivery_task(posted.delivery_id, parameters)


class OutboxThread(BrokerThread):
    """Empties the outbox."""

    def __init__(self, app: Celery, outbox: Outbox) -> None:
        super().__init__("outbox", app)
        self._outbox = outbox

    def use(self, connection: Connection) -> None:
        publish = self.open_publish(connection)
        while True:
            if not self._outbox.empty(publish):
                time.sleep(LOOK_S)


class OutboxStep(bootsteps.StartStopStep):
    """Celery starts it with the worker."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        app = worker.app
        client = connect(cast(RecordBackend, app.backend).url, timeout_s=STORE_TIMEOUT_S)
        OutboxThread(app, Outbox(client, retention_s=int(app.conf.result_expires))).start()
