"""Every failure becomes one application/problem+json answer here (RFC 9457).

Must not know which route failed, and never tells a client about exceptions, hosts or credentials.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from taskservice.api.deadlines import note_arrival
from taskservice.api.methods import tell_methods_exactly
from taskservice.api.streams import drain
from taskservice.errors import FieldError, InvalidSubmission, StoredFileNotFound, Unavailable, UploadTooLarge

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
UNAVAILABLE_RETRY_AFTER_S = 5
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure as the client reads it. `error` is stable; `members` are further members of the document."""

    status: int
    error: str
    detail: str
    errors: Sequence[FieldError] = ()
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Raised by a view that answers with this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.error)
        self.problem = problem


TASK_NOT_FOUND = Problem(404, "task_not_found", "No task has this id.")

_HTTP_ERRORS = {
    400: ("bad_request", "The request is malformed."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not support the method; the Allow header names those it does."),
    413: ("body_too_large", "The body is larger than this address accepts."),
    415: ("unsupported_media_type", "The body's media type is not the one this address expects."),
}


def answer_problems(app: Flask) -> None:
    """Give every request an id and every failure a problem document."""
    app.before_request(note_arrival)
    app.before_request(_identify)
    app.after_request(_label)
    tell_methods_exactly(app)
    app.register_error_handler(HTTPException, lambda error: respond(_from_http(error)))
    app.register_error_handler(InvalidSubmission, lambda error: respond(_from_invalid(error)))
    app.register_error_handler(Refusal, lambda error: respond(error.problem))
    app.register_error_handler(StoredFileNotFound, lambda error: respond(_from_missing_file(error)))
    app.register_error_handler(UploadTooLarge, lambda error: respond(Problem(413, "body_too_large", str(error))))
    app.register_error_handler(Unavailable, lambda error: respond(_from_unavailable(error)))
    app.register_error_handler(Exception, lambda error: respond(_from_surprise(error)))


def respond(problem: Problem) -> Response:
    """The problem document, after what is left of the body was read: who still writes cannot read."""
    drain(request.environ)
    document = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": quote(request.path),
        "request_id": g.request_id,
        "error": problem.error,
        "errors": [asdict(error) for error in problem.errors],
        **problem.members,
    }
    body = current_app.json.dumps(document) + "\n"
    return Response(body, problem.status, headers=dict(problem.headers), content_type=PROBLEM_TYPE)


def unavailable(error: str, detail: str, **members: Any) -> Problem:
    """A 503 that says when to come back."""
    return Problem(503, error, detail, members=members, headers={"Retry-After": str(UNAVAILABLE_RETRY_AFTER_S)})


def unsent_outcome() -> str:
    """What a 503 says of a request that nothing was done for yet: an earlier one with its key may have done it."""
    return "unknown" if "Idempotency-Key" in request.headers else "refused"


_OUTCOMES = {
    "refused": "Nothing will come of this request; send it again.",
    "unknown": "What will come of it could not be made sure; repeat it with its Idempotency-Key.",
}


def _identify() -> None:
    sent = request.headers.get("X-Request-ID", "")
    g.request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _label(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    return response


def _from_http(error: HTTPException) -> Problem:
    status = error.code or 500
    known = _HTTP_ERRORS.get(status)
    name, detail = known or (HTTPStatus(status).phrase.lower().replace(" ", "_"), HTTPStatus(status).description)
    if error.description and error.description != type(error).description:  # said on purpose, by us
        detail = error.description
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return Problem(status, getattr(error, "error", name), detail, headers=kept)


def _from_invalid(error: InvalidSubmission) -> Problem:
    return Problem(422, "invalid_request", "The request does not validate; `errors` names each member.", error.errors)


def _from_missing_file(error: StoredFileNotFound) -> Problem:
    return Problem(404, "file_not_found", str(error))


def _from_unavailable(error: Unavailable) -> Problem:
    logger.warning(
        "request.unavailable method=%s path=%s missing=%s outcome=%s request_id=%s",
        request.method,
        quote(request.path),
        error.missing,
        error.outcome,
        g.request_id,
    )
    detail = f"The {error.missing} cannot be reached."
    if error.outcome is None:
        return unavailable(f"{error.missing}_unavailable", detail)
    detail = f"{detail} {_OUTCOMES.get(error.outcome, '')}".strip()
    return unavailable(f"{error.missing}_unavailable", detail, outcome=error.outcome)


def _from_surprise(error: Exception) -> Problem:
    logger.error(
        "request.failed method=%s path=%s request_id=%s",
        request.method,
        quote(request.path),
        g.request_id,
        exc_info=error,
    )
    return Problem(500, "internal", "Something went wrong here; the log has it under this request_id.")
