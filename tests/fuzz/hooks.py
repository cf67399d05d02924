"""What the fuzzer is told beyond the description: the truth of a service with keys, and whom it may call.

Loaded by schemathesis, which knows nothing of pytest.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import schemathesis

from tests.fuzz.examples import make_true


@schemathesis.hook
def before_load_schema(_context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    _require_keys(raw_schema)
    _keep_webhooks_here(raw_schema)
    _link_what_is_made(raw_schema)
    make_true(raw_schema, os.environ["FUZZ_URL"], os.environ["FUZZ_KEY"], os.environ["FUZZ_CALLBACK"])


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """An example's Idempotency-Key is for one request: `x-used-once`."""
    if case.meta is not None and case.meta.phase.name == "examples" and "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())


def _require_keys(raw_schema: dict[str, Any]) -> None:
    """The description lets guests in, which holds only while there is no key; here there is one."""
    for path, operations in raw_schema["paths"].items():
        for operation in operations.values():
            operation["security"] = [way for way in operation["security"] if way] if path.startswith("/api/") else []


def _keep_webhooks_here(raw_schema: dict[str, Any]) -> None:
    """A valid callback is one to our own receiver: nobody else wants the webhooks of a random URL."""
    callback = raw_schema["components"]["schemas"]["CallbackRequest"]
    callback["properties"]["url"] = {"type": "string", "const": os.environ["FUZZ_CALLBACK"]}


def _link_what_is_made(raw_schema: dict[str, Any]) -> None:
    """Ways from an answer to the next request that the fuzzer does not infer by itself."""
    batch = raw_schema["paths"]["/api/tasks/batch"]["post"]["responses"]["202"]
    batch["links"] = {
        "readBatch": {
            "operationRef": "#/paths/~1api~1batches~1{batch_id}/get",
            "parameters": {"batch_id": "$response.body#/batch_id"},
        }
    }
    deliveries = raw_schema["paths"]["/api/tasks/{task_id}/deliveries"]["get"]["responses"]["200"]
    deliveries["links"] = {
        "replay": {
            "operationRef": "#/paths/~1api~1tasks~1{task_id}~1deliveries~1{n}~1replay/post",
            "parameters": {"task_id": "$request.path.task_id", "n": "$response.body#/data/0/n"},
        }
    }
