"""A client as the contract asks for: it keeps every answer and repeats what is unsure with the same Idempotency-Key.

Judges nothing; knows HTTP only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.faults.ledger import Answer, Outcome, Sighting, Submitted, Verb

PATIENCE_S = 15.0  # longer than any promise, so that a late answer is seen as late
REPEAT_AFTER_S = 1.0
SETTLE_WITHIN_S = 60.0
IDLE_S = 2.0  # the service closes a connection that was idle for 5 s, perhaps in the moment that it is used again


class Client:
    """One connection to the service. Not to be shared between threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._used_at = 0.0

    def submit(self, submitted: Submitted) -> Outcome:
        """One request; its answer is kept in `submitted`."""
        answer = self.ask(Verb.SUBMIT, "POST", "/api/tasks", body=submitted.body, key=submitted.key)
        submitted.answers.append(answer)
        return answer.outcome

    def ask(
        self, verb: Verb, method: str, path: str, *, body: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Answer:
        """One request and how it ended; never raises."""
        headers = {"Idempotency-Key": key} if key else {}
        asked_at = time.time()
        try:
            response = self._send(method, path, json=body and dict(body), headers=headers)
        except requests.RequestException:
            return Answer(asked_at, time.time(), None, Outcome.UNKNOWN, verb=verb)
        return _to_answer(response, asked_at, verb)

    def read(self, path: str) -> dict[str, Any]:
        """The document of a GET; empty while the service cannot say."""
        try:
            response = self._send("GET", path)
        except requests.RequestException:
            return {}
        return _json(response) if response.status_code == 200 else {}

    def send_and_leave(self, submitted: Submitted) -> None:
        """Send it whole and close the connection before there can be an answer."""
        address = urlsplit(self._url)
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": submitted.key} if submitted.key else {})
        asked_at = time.time()
        connection = HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE_S)
        connection.request("POST", "/api/tasks", json.dumps(dict(submitted.body)), headers)
        connection.close()
        submitted.answers.append(Answer(asked_at, time.time(), None, Outcome.UNKNOWN))

    def settle(self, submitted: Submitted) -> None:
        """Repeat it until the service says accepted or refused, at most a minute; without a key it stays as it is."""
        deadline = time.monotonic() + SETTLE_WITHIN_S
        while submitted.key and not submitted.answers[-1].outcome.is_settled and time.monotonic() < deadline:
            time.sleep(max(0.0, submitted.answers[-1].answered_at + REPEAT_AFTER_S - time.time()))
            self.submit(submitted)

    def look(self, submitted: Submitted) -> Sighting | None:
        """One GET of an accepted task; None while the service cannot say."""
        try:
            response = self._send("GET", f"/api/tasks/{submitted.task_id}")
            document = _json(response)
        except requests.RequestException:
            return None
        if response.status_code not in (200, 404):
            return None
        sighting = Sighting(time.time(), response.status_code, document.get("status"), document.get("attempt", 0))
        if not submitted.sightings or _differ(sighting, submitted.sightings[-1]):
            submitted.sightings.append(sighting)
        if response.status_code == 200:
            submitted.task = document
        return sighting

    def cancel(self, submitted: Submitted) -> int:
        """The status code."""
        return self._send("DELETE", f"/api/tasks/{submitted.task_id}").status_code

    def missing(self) -> list[str] | None:
        """What /readyz misses: nothing when it is ready, None when it does not answer."""
        try:
            response = self._send("GET", "/readyz")
            return [] if response.status_code == 200 else list(_json(response).get("missing", ["?"]))
        except requests.RequestException:
            return None

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Raises requests.RequestException."""
        if time.monotonic() - self._used_at > IDLE_S:
            self._session.close()  # which opens another at need
        try:
            return self._session.request(method, f"{self._url}{path}", timeout=PATIENCE_S, **options)
        finally:
            self._used_at = time.monotonic()


def _to_answer(response: requests.Response, asked_at: float, verb: Verb) -> Answer:
    document, status_code = _json(response), response.status_code
    outcome = _outcome(status_code, document, verb)
    return Answer(asked_at, time.time(), status_code, outcome, document, dict(response.headers), verb)


def _outcome(status_code: int, document: Mapping[str, Any], verb: Verb) -> Outcome:
    if status_code in _DONE[verb]:
        return Outcome.ACCEPTED
    if status_code == 409 and document.get("error") == "idempotency_in_flight":
        return Outcome.IN_FLIGHT
    if status_code == 409 and verb in (Verb.CANCEL, Verb.RUN):  # it is final by now, or runs already
        return Outcome.REFUSED
    if status_code == 503 and document.get("outcome") in (Outcome.REFUSED, Outcome.UNKNOWN):
        return Outcome(document["outcome"])
    if status_code == 503 and verb in (Verb.CANCEL, Verb.PAUSE, Verb.RESUME):  # to be repeated as it is
        return Outcome.UNKNOWN
    return Outcome.UNEXPECTED


_DONE = {
    **dict.fromkeys((Verb.SUBMIT, Verb.BATCH, Verb.RETRY, Verb.RUN), (202,)),
    **dict.fromkeys((Verb.BULK_CANCEL, Verb.BULK_RETRY, Verb.PAUSE, Verb.RESUME), (200,)),
    Verb.CANCEL: (200, 202),
}


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except requests.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _differ(one: Sighting, other: Sighting) -> bool:
    return (one.status_code, one.status, one.attempt) != (other.status_code, other.status, other.attempt)
