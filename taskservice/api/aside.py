"""Work that keeps a processor busy for long, done beside the requests of the process and not between them.

Must not know the work: a pure function that waits for nothing and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from gevent import monkey
from gevent.threadpool import ThreadPool

Answer = TypeVar("Answer")
Given = TypeVar("Given")


def aside(work: Callable[[Given], Answer], given: Given) -> Answer:
    """What `work` returns or raises. One at a time: two that are large would need twice the memory.

    Under gunicorn all requests of a process share one thread; this gives the work a second one, so that the others
    wait for a slice of Python's time and not for its end.
    """
    if not monkey.is_module_patched("socket"):  # a development server, or a test: every request has its own thread
        return work(given)
    return _second_thread().apply(work, (given,))  # type: ignore[no-any-return]


@cache
def _second_thread() -> ThreadPool:
    """Made at first use, so after the fork."""
    return ThreadPool(1)
