"""Looking a host up within a time: the system's resolver has no time-out of ours, and no signal interrupts it.

Must not know which addresses are allowed.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from taskservice.handlers.webhook_delivery.addresses import Resolve

MAX_HANGING = 8  # look-ups of this process that nobody waits for any more; each holds a thread

_places = threading.BoundedSemaphore(MAX_HANGING)


def look_up(resolve: Resolve, host: str, port: int, *, timeout_s: float) -> list[str]:
    """All addresses of the host. Raises TimeoutError, and OSError as `resolve` does.

    A look-up that hangs goes on in its thread until the resolver gives up by itself.
    """
    if not _places.acquire(blocking=False):
        raise TimeoutError
    answer: Future[list[str]] = Future()

    def ask() -> None:
        try:
            answer.set_result(list(resolve(host, port)))
        except OSError as error:
            answer.set_exception(error)
        finally:
            _places.release()

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        return answer.result(timeout_s)
    except FutureTimeoutError as error:  # the built-in one only from Python 3.11 on
        raise TimeoutError from error
