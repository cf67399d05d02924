"""A task type that breaks as a handler with a fault does. Workers of the contract suite load it.

Must not catch anything.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from taskservice.context import TaskContext
from taskservice.handlers import task_type

SECRET = "amqp://user:hidden@broker.internal"  # of the kind that exceptions like to quote


class NoParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


@task_type("broken", parameters=NoParameters, max_retries=0)
def broken(parameters: NoParameters, ctx: TaskContext) -> dict[str, Any]:
    """Raise what no handler means to raise."""
    raise RuntimeError(SECRET)
