"""The service described: OpenAPI 3.1 as /openapi.json, and the page that shows it, with its own assets.

Must not know how a route does its work.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, send_from_directory
from pydantic import BaseModel, Field

from taskservice.api.errors import PROBLEM_TYPE
from taskservice.api.examples import with_examples
from taskservice.api.selection import BulkRequest
from taskservice.api.services import Services
from taskservice.api.views import BatchAccepted, BatchRejected, FieldProblem
from taskservice.request_bodies import BatchRequest, RetryRequest, SubmissionRequest


class ProblemDocument(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    error: str = Field(description="A stable code.")
    errors: list[FieldProblem]
    scope: str | None = Field(default=None, description="403: the scope that the key does not have.")
    outcome: str | None = Field(default=None, description="503 to a submission: refused or unknown.")
    results: list[BatchAccepted | BatchRejected] | None = Field(
        default=None, description="Of a batch of which nothing was accepted."
    )
    task_id: str | None = Field(default=None, description="409 of a file in use: a task that needs it.")
    missing: list[str] | None = Field(default=None, description="503 of /readyz: what is not there.")


def problems(**reasons: str) -> dict[str | int, dict[str, Any]]:
    """Documented problem answers: `problems(_404="No task has this id.")`; those of any route are always among them."""
    return open_problems(**(_OF_A_KEY | reasons))


def open_problems(**reasons: str) -> dict[str | int, dict[str, Any]]:
    """The same for a route that asks for no API key."""
    return {code.removeprefix("_"): _problem(code, reason) for code, reason in {**_OF_ANY_ROUTE, **reasons}.items()}


def _problem(code: str, reason: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    described: dict[str, Any] = {"description": reason, "content": {PROBLEM_TYPE: {"schema": schema}}}
    return described | ({"headers": _HEADERS[code]} if code in _HEADERS else {})


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}
_CHALLENGE = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
_HEADERS = {"_401": _CHALLENGE, "_429": _RETRY_AFTER, "_503": _RETRY_AFTER}

_OF_ANY_ROUTE = {"_422": "There is a query parameter that nobody defined.", "_500": "A fault of the service."}
_OF_A_KEY = {
    "_401": "The API key is missing or not valid.",
    "_403": "The key does not have the scope; or there are no keys and the request comes from another site's page.",
    "_429": "Over the key's rate; Retry-After says when there is more.",
    "_503": "The store cannot be reached.",
}


def submission_body(services: Services) -> dict[str, Any]:
    """The request body of a submission, with an example of each task type that works as it stands."""
    examples = {
        kind.name: {"summary": kind.description, "value": {"task_type": kind.name, "parameters": dict(kind.example)}}
        for kind in services.task_types.values()
    }
    body = body_of("SubmissionRequest")
    body["content"]["application/json"]["examples"] = examples
    return body


def body_of(schema: str, *, required: bool = True) -> dict[str, Any]:
    """A JSON request body, by the name of its schema among the components."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"required": required, "content": {"application/json": content}}


def create_blueprint(services: Services) -> Blueprint:
    """`/openapi.json` and `/docs`."""
    assets = str(resources.files("flask_openapi3_swagger") / "templates" / "swagger")
    blueprint = Blueprint("description", __name__, static_folder=assets, static_url_path="/docs/assets")

    @blueprint.get("/openapi.json")
    def document() -> Response:
        described: dict[str, Any] = current_app.api_doc  # type: ignore[attr-defined]
        schemas = {**described["components"]["schemas"], **_request_schemas(services)}
        components = {**described["components"], "schemas": schemas}
        return jsonify({**described, "paths": with_examples(described["paths"]), "components": components})

    @blueprint.get("/docs")
    def page() -> Response:
        return _fresh("index.html")

    @blueprint.get("/docs/<filename>")
    def script(filename: str) -> Response:
        return _fresh(filename)

    return blueprint


def _request_schemas(services: Services) -> dict[str, Any]:
    """Exact JSON Schemas; the library's own Schema model drops the keywords it does not know."""
    schemas: dict[str, Any] = {}
    request = _hoisted(SubmissionRequest.model_json_schema(), "", schemas)
    names = [f"{kind}.parameters" for kind in services.task_types]
    for name, kind in zip(names, services.task_types.values(), strict=True):
        schemas[name] = _hoisted(kind.parameters_model.model_json_schema(), f"{name}.", schemas)
    described = request["properties"]["parameters"].get("description", "")
    one_of_them = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    request["properties"]["parameters"] = {"description": described, "type": "object", "anyOf": one_of_them}
    request["properties"]["task_type"]["enum"] = list(services.task_types)
    schemas["SubmissionRequest"] = request
    for model in (RetryRequest, BatchRequest, BulkRequest):
        schemas[model.__name__] = _hoisted(model.model_json_schema(), "", schemas)
    schemas["BatchRequest"]["properties"]["tasks"]["items"] = {"$ref": "#/components/schemas/SubmissionRequest"}
    return schemas


def _hoisted(schema: dict[str, Any], prefix: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions moved to `schemas`, where a reference from the document's root finds them."""
    definitions = schema.pop("$defs", {})
    schemas.update({f"{prefix}{name}": _rebased(value, prefix) for name, value in definitions.items()})
    rebased: dict[str, Any] = _rebased(schema, prefix)
    return rebased


def _rebased(value: Any, prefix: str) -> Any:
    if isinstance(value, list):
        return [_rebased(one, prefix) for one in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return f"#/components/schemas/{prefix}{value.removeprefix('#/$defs/')}"
    if isinstance(value, dict):
        return {key: _rebased(one, prefix) for key, one in value.items()}
    return value


def _fresh(filename: str) -> Response:
    """Page, scripts and document must fit one another."""
    response = send_from_directory(_FOLDER, filename)
    response.headers["Cache-Control"] = "no-cache"
    return response


_FOLDER = str(resources.files("taskservice.api") / "docs")

SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
