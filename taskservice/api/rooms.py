"""How a blueprint of the API begins: its address, its tag, and no query parameter that nobody defined.

Must not know what the routes do.
"""

from __future__ import annotations

from flask import request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from taskservice.errors import FieldError, InvalidSubmission


def open_room(name: str, url_prefix: str | None = None, *, tag: str = "", **query: frozenset[str]) -> APIBlueprint:
    """A blueprint whose views refuse query parameters, except those named: `list_tasks=frozenset({"limit"})`.

    An option that is not understood must not be ignored: `?dry_run=true` would submit.
    """
    blueprint = APIBlueprint(name, __name__, url_prefix=url_prefix, abp_tags=[Tag(name=tag or name)])

    def refuse_query_parameters() -> None:
        view = (request.endpoint or "").removeprefix(f"{name}.")
        unknown = [parameter for parameter in request.args if parameter not in query.get(view, ())]
        if unknown:
            raise InvalidSubmission([FieldError(f"/{parameter}", "no such query parameter") for parameter in unknown])

    blueprint.before_request(refuse_query_parameters)
    return blueprint
