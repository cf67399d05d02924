"""Hands submissions to the broker and says what its queues hold.

Must not know HTTP, Redis records or what a task does.
"""

from taskservice.publisher.channel import PATIENCE_S, send_submission
from taskservice.publisher.publisher import PATIENCE_FOR_ALL_S, Publisher

__all__ = ["PATIENCE_FOR_ALL_S", "PATIENCE_S", "Publisher", "send_submission"]
