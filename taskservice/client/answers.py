"""What an answer that is no success means, and why there is none: one error for each.

Must not know whether anybody will try again.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError

from taskservice.client.errors import ApiError, ClientError, UnexpectedAnswer, Unreachable, class_for
from taskservice.errors import FieldError

_MANY_SECONDS = 10**9
# Answers that a balancer or proxy in front of the service gives in its own words.
_PROXY_ANSWERS = (401, 403, 413, 429, 502, 503, 504)


def failure_of(url: str, response: requests.Response) -> ClientError:
    """The service's problem document, or whatever else stands at that address."""
    status = response.status_code
    document = _problem_document(response)
    if document is not None:
        return _from_problem(status, document, retry_after_s(response))
    phrase = _phrase(status)
    if status in _PROXY_ANSWERS:
        error = phrase.lower().replace(" ", "_")
        return class_for(status)(status, error, phrase, retry_after_s=retry_after_s(response))
    if "Location" in response.headers and 300 <= status < 400:
        return UnexpectedAnswer(url, f"it redirects to {response.headers['Location']}; use that as the URL")
    return UnexpectedAnswer(url, f"{status} {phrase} without a problem document; is the URL right?")


def unreachable(url: str, error: requests.RequestException) -> Unreachable:
    """Why there was no answer, and whether the request can have arrived."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    was_sent = not (isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError))
    return Unreachable(url, _reason(error, reason), was_sent=was_sent)


def retry_after_s(response: requests.Response) -> float | None:
    """Seconds, from either form of RFC 9110 section 10.2.3; None when there is no sensible one."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(int(text) if len(text) < 10 else _MANY_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _problem_document(response: requests.Response) -> Mapping[str, Any] | None:
    """None where the answer is not one of ours; raises what `requests` raises when the body breaks off."""
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    try:
        document = response.json()
    except requests.exceptions.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _from_problem(status: int, document: Mapping[str, Any], retry_after_s: float | None) -> ApiError:
    listed = document.get("errors")
    errors = [
        FieldError(str(one.get("pointer", "")), str(one.get("detail", "")))
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
    ]
    return class_for(status)(
        status,
        str(document.get("error") or "unknown"),
        str(document.get("detail") or document.get("title") or _phrase(status)),
        errors=errors,
        request_id=document.get("request_id"),
        outcome=document.get("outcome"),
        retry_after_s=retry_after_s,
    )


def _reason(error: requests.RequestException, reason: object) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(reason, NameResolutionError):
        return "no such host"
    first = innermost(error)
    if isinstance(first, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionResetError):
        return "the connection broke off before the answer was complete"
    if isinstance(first, OSError) and first.strerror:
        return first.strerror
    return str(first) or type(first).__name__


def innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an unknown status"
