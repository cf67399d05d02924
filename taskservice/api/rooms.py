"""How a blueprint of the API begins: its address, its tag, and no query parameter that nobody defined.

Must not know what the routes do.
"""

from __future__ import annotations

from typing import NoReturn

from flask import request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import ValidationError

from taskservice.errors import FieldError, InvalidSubmission
from taskservice.request_bodies import field_errors

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}, {}]  # none: on loopback without keys
SEVERAL = frozenset({"status", "state"})  # query parameters that may be given more than once


def open_room(name: str, url_prefix: str | None = None, *, tag: str = "", **query: frozenset[str]) -> APIBlueprint:
    """A blueprint whose views refuse query parameters, except those named: `list_tasks=frozenset({"limit"})`.

    An option that is not understood must not be ignored, nor one of two that differ: `?dry_run=true` would submit.
    """
    blueprint = APIBlueprint(
        name, __name__, url_prefix=url_prefix, abp_tags=[Tag(name=tag or name)], abp_security=SECURITY
    )

    def refuse_query_parameters() -> None:
        view = (request.endpoint or "").removeprefix(f"{name}.")
        known = query.get(view, frozenset())
        errors = [FieldError(f"/{name}", "no such query parameter") for name in request.args if name not in known]
        errors += [FieldError(f"/{name}", "given more than once") for name in known - SEVERAL if _is_repeated(name)]
        if errors:
            raise InvalidSubmission(errors)

    blueprint.before_request(refuse_query_parameters)
    return blueprint


def refuse_query(error: ValidationError) -> NoReturn:
    """For query parameters that do not validate: named as everything else is."""
    raise InvalidSubmission(field_errors(error)) from error


def _is_repeated(name: str) -> bool:
    return len(request.args.getlist(name)) > 1
