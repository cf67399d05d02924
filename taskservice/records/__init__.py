"""What we keep in Redis: the records of tasks, their index, pauses and idempotency keys. All keys are built in here.

Knows neither HTTP nor Celery.
"""

from taskservice.records.attempts import Attempts, Claim, ClaimAnswer, Lease, Posted, Run, Swept
from taskservice.records.index import IndexPage, TaskIndex
from taskservice.records.pauses import Pauses
from taskservice.records.records import Records
from taskservice.records.script import LEASE_S, MAX_DELIVERIES

__all__ = [
    "LEASE_S", "MAX_DELIVERIES", "Attempts", "Claim", "ClaimAnswer", "IndexPage", "Lease", "Pauses", "Posted",
    "Records", "Run", "Swept", "TaskIndex",
]  # fmt: skip
