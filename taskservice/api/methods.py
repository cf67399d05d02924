"""Which methods an address has, where one address fits several routes: /api/tasks/batch is no task's.

Must not know the routes.
"""

from __future__ import annotations

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Rule


def tell_methods_exactly(app: Flask) -> None:
    """`Allow` names the methods of the address's own route; Werkzeug adds those of every pattern that fits it too."""
    app.after_request(_correct_allow)


def keep_methods_exact(app: Flask) -> None:
    """GET /api/tasks/batch reads no task called batch: what the address's own route does not have is refused."""
    app.before_request(_refuse_others)


def _refuse_others() -> None:
    if request.url_rule is None or not request.url_rule.arguments:
        return
    own = _own_rule()
    if own is not None and own.rule != request.url_rule.rule:
        raise MethodNotAllowed(valid_methods=sorted(_methods(own)))


def rule_of_address() -> Rule | None:
    """The route that the address belongs to, whatever the request's method; None when there is none."""
    return _own_rule() if request.url_rule is None else request.url_rule


def _own_rule() -> Rule | None:
    adapter = current_app.create_url_adapter(request)
    if adapter is None:
        return None
    try:
        rule, _ = adapter.match(method="OPTIONS", return_rule=True)  # which every route has
    except HTTPException:
        return None
    return rule


def _correct_allow(response: Response) -> Response:
    rule = _own_rule() if "Allow" in response.headers else None
    if rule is not None:
        response.headers["Allow"] = ", ".join(sorted(_methods(rule)))
    return response


def _methods(rule: Rule) -> set[str]:
    """Of all routes with this very address: GET and POST may have a view each."""
    return {method for one in current_app.url_map.iter_rules() if one.rule == rule.rule for method in one.methods or ()}
