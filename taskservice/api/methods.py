"""Which methods an address has, where one address fits several routes: /api/tasks/batch is no task's.

Must not know the routes.
"""

from __future__ import annotations

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule


def tell_methods_exactly(app: Flask) -> None:
    """`Allow` names the methods of the address's own route; Werkzeug adds those of every pattern that fits it too."""
    app.after_request(_correct_allow)


def rule_of_address() -> Rule | None:
    """The route that the address belongs to, whatever the request's method; None when there is none."""
    if request.url_rule is not None:
        return request.url_rule
    adapter = current_app.create_url_adapter(request)
    if adapter is None:
        return None
    try:
        rule, _ = adapter.match(method="OPTIONS", return_rule=True)  # which every route has
    except HTTPException:
        return None
    return rule


def _correct_allow(response: Response) -> Response:
    rule = rule_of_address() if "Allow" in response.headers else None
    if rule is not None:
        response.headers["Allow"] = ", ".join(sorted(_methods(rule)))
    return response


def _methods(rule: Rule) -> set[str]:
    """Of all routes with this very address: GET and POST may have a view each."""
    return {method for one in current_app.url_map.iter_rules() if one.rule == rule.rule for method in one.methods or ()}
