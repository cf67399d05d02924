"""Hands submissions to the broker and says what its queues hold.

Must not know HTTP, Redis records or what a task does.
"""

from taskservice.publisher.channel import PATIENCE_S, send_submission
from taskservice.publisher.publisher import Publisher

__all__ = ["PATIENCE_S", "Publisher", "send_submission"]
