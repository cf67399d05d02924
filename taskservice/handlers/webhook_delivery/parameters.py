"""Parameters of a delivery, and of the callback that leads to deliveries.

Must not know of connections.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from taskservice.errors import FieldError, InvalidSubmission
from taskservice.handlers.webhook_delivery.addresses import MAX_URL_LENGTH, ForbiddenTarget, parse_target
from taskservice.model import Callback, Priority, Submission, from_ms, now, to_ms

TASK_TYPE = "webhook_delivery"
MAX_ATTEMPTS = 15  # with waits of 1, 2, 4 … 2048, 3600, 3600 s: about three hours
LONGEST_RETRY_DELAY_S = 3600

# Not `progress`: two requests a second for as long as a task runs are for the event stream.
Event = Literal["scheduled", "queued", "started", "retrying", "succeeded", "failed", "cancelled", "expired"]


def _without_repetition(events: list[Event]) -> list[Event]:
    return list(dict.fromkeys(events))


class CallbackRequest(BaseModel):
    """The member `callback` of a submission."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field(
        max_length=MAX_URL_LENGTH,
        description="An https URL of a public host, without user and password.",
        json_schema_extra={"format": "uri"},
    )
    events: Annotated[list[Event], Field(min_length=1), AfterValidator(_without_repetition)] = Field(
        description="The changes to be told of."
    )


class DeliveryParameters(BaseModel):
    """What the outbox asks for: one body to one URL, the same for every attempt and replay."""

    model_config = ConfigDict(extra="forbid")

    url: str
    webhook_id: str
    body: str
    key_id: str | None = None  # whose secrets sign it; None: the service's own


def to_callback(request: CallbackRequest, *, allow_private: bool) -> Callback:
    """What can be checked at submission; the host's addresses are looked up at each delivery.

    Raises InvalidSubmission with the pointer /callback/url.
    """
    try:
        parse_target(request.url, allow_private=allow_private)
    except ForbiddenTarget as error:
        raise InvalidSubmission([FieldError("/callback/url", str(error))]) from error
    return Callback(request.url, tuple(request.events))


def delivery_task(delivery_id: str, parameters: DeliveryParameters) -> Submission:
    """A series of attempts to deliver it, as a task that is due now."""
    moment = from_ms(to_ms(now()))  # as messages and records keep instants
    return Submission(
        task_id=delivery_id,
        task_type=TASK_TYPE,
        priority=Priority.NORMAL,
        parameters=parameters.model_dump(mode="json"),
        created_at=moment,
        due_at=moment,
        max_attempts=MAX_ATTEMPTS,
        key_id=parameters.key_id,
    )
