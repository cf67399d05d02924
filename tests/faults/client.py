"""A client as the contract asks for: it keeps every answer and repeats what is unsure with the same Idempotency-Key.

Judges nothing; knows HTTP only.
"""

from __future__ import annotations

import time
from typing import Any

import requests

from tests.faults.ledger import Answer, Outcome, Sighting, Submitted

PATIENCE_S = 15.0  # longer than any promise, so that a late answer is seen as late
REPEAT_AFTER_S = 1.0
SETTLE_WITHIN_S = 60.0


class Client:
    """One connection to the service. Not to be shared between threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()

    def submit(self, submitted: Submitted) -> Outcome:
        """One request; its answer is kept in `submitted`."""
        headers = {"Idempotency-Key": submitted.key} if submitted.key else {}
        asked_at = time.time()
        try:
            response = self._session.post(
                f"{self._url}/api/tasks", json=dict(submitted.body), headers=headers, timeout=PATIENCE_S
            )
            answer = _to_answer(response, asked_at)
        except requests.RequestException:
            answer = Answer(asked_at, time.time(), None, Outcome.UNKNOWN)
        submitted.answers.append(answer)
        return answer.outcome

    def settle(self, submitted: Submitted) -> None:
        """Repeat it until the service says accepted or refused, at most a minute; without a key it stays as it is."""
        deadline = time.monotonic() + SETTLE_WITHIN_S
        while submitted.key and not submitted.answers[-1].outcome.is_settled and time.monotonic() < deadline:
            time.sleep(max(0.0, submitted.answers[-1].answered_at + REPEAT_AFTER_S - time.time()))
            self.submit(submitted)

    def look(self, submitted: Submitted) -> Sighting | None:
        """One GET of an accepted task; None while the service cannot say."""
        try:
            response = self._session.get(f"{self._url}/api/tasks/{submitted.task_id}", timeout=PATIENCE_S)
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
        return self._session.delete(f"{self._url}/api/tasks/{submitted.task_id}", timeout=PATIENCE_S).status_code

    def missing(self) -> list[str] | None:
        """What /readyz misses: nothing when it is ready, None when it does not answer."""
        try:
            response = self._session.get(f"{self._url}/readyz", timeout=PATIENCE_S)
            return [] if response.status_code == 200 else list(_json(response).get("missing", ["?"]))
        except requests.RequestException:
            return None


def _to_answer(response: requests.Response, asked_at: float) -> Answer:
    document = _json(response)
    return Answer(
        asked_at,
        time.time(),
        response.status_code,
        _outcome(response.status_code, document),
        document,
        dict(response.headers),
    )


def _outcome(status_code: int, document: dict[str, Any]) -> Outcome:
    if status_code == 202:
        return Outcome.ACCEPTED
    if status_code == 409:
        return Outcome.IN_FLIGHT
    if status_code == 503 and document.get("outcome") in (Outcome.REFUSED, Outcome.UNKNOWN):
        return Outcome(document["outcome"])
    return Outcome.UNEXPECTED


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except requests.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _differ(one: Sighting, other: Sighting) -> bool:
    return (one.status_code, one.status, one.attempt) != (other.status_code, other.status, other.attempt)
