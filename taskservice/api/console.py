"""The console: one page over the API, from this origin alone.

Must not know what the page asks the API for.
"""

from __future__ import annotations

from importlib import resources

from flask import Blueprint, Response, send_from_directory

_FOLDER = str(resources.files("taskservice.api") / "console")


def create_blueprint() -> Blueprint:
    """`/` and `/console/…`, its style and script."""
    blueprint = Blueprint("console", __name__)

    @blueprint.get("/")
    def page() -> Response:
        return _fresh(send_from_directory(_FOLDER, "index.html"))

    @blueprint.get("/console/<path:filename>")
    def asset(filename: str) -> Response:
        return _fresh(send_from_directory(_FOLDER, filename))

    return blueprint


def _fresh(response: Response) -> Response:
    """A page and a script of different versions must not meet; the ETag keeps it cheap."""
    response.headers["Cache-Control"] = "no-cache"
    return response
