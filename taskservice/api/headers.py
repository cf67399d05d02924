"""What every answer tells a browser: what a page may load, who may frame it, and what it tells others.

Must not know what the answers say.
"""

from __future__ import annotations

from flask import Flask, Response, request

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Whatever a task's text says, the browser runs the page's own script and talks to this origin only.
_CONSOLE = (
    f"{_NOTHING}; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# The page's library writes styles into the document and draws its icons from data: addresses.
_DOCS = f"{_NOTHING}; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
_POLICIES = {"console": _CONSOLE, "description": _DOCS}  # by blueprint; what is not listed is no page


def tell_browsers(app: Flask) -> None:
    """A view may say more by itself."""
    app.after_request(_tell)


def _tell(response: Response) -> Response:
    policy = _POLICIES.get(request.blueprint or "", _NOTHING)
    response.headers.setdefault("Content-Security-Policy", policy)
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
