"""The console: one page over the API, from this origin alone.

Must not know what the page asks the API for.
"""

from __future__ import annotations

from importlib import resources

from flask import Blueprint, Response, send_from_directory

_FOLDER = str(resources.files("taskservice.api") / "console")
# Whatever a task's text says, the browser runs the page's own script and talks to this origin only.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


def create_blueprint() -> Blueprint:
    """`/` and `/console/…`, its style and script."""
    blueprint = Blueprint("console", __name__)

    @blueprint.get("/")
    def page() -> Response:
        response = send_from_directory(_FOLDER, "index.html")
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return _fresh(response)

    @blueprint.get("/console/<path:filename>")
    def asset(filename: str) -> Response:
        return _fresh(send_from_directory(_FOLDER, filename))

    return blueprint


def _fresh(response: Response) -> Response:
    """A page and a script of different versions must not meet; the ETag keeps it cheap."""
    response.headers["Cache-Control"] = "no-cache"
    return response
