"""How long a request waits for the broker: it is answered within 5 s of its arrival, whoever hangs.

Must not know what is published.
"""

from __future__ import annotations

import time

from flask import g

ANSWER_S = 5.0
_STORE_S = 1.5  # of those, for marking a refusal in a store that hangs too
_LEAST_S = 1.0  # for a request whose body took long to arrive


def note_arrival() -> None:
    """Before anything is asked for this request."""
    g.arrived_at = time.monotonic()


def publish_until() -> float:
    """The moment of time.monotonic after which this request waits for no confirm."""
    moment: float = g.arrived_at + ANSWER_S - _STORE_S
    return max(moment, time.monotonic() + _LEAST_S)
