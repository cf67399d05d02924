"""The registry of task types. A type is one module: its parameters model and its function under `@task_type`.

The modules here come with the service; `TASK_TYPE_MODULES` names further ones.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from taskservice.errors import ConfigurationError
from taskservice.model import RateLimit
from taskservice.queues import check_dedicated
from taskservice.task_type import Handler, ParametersModel, TaskType

BUILT_IN_MODULES = (
    "taskservice.handlers.data_processing",
    "taskservice.handlers.email_sending",
    "taskservice.handlers.file_processing",
    "taskservice.handlers.webhook_delivery",
)

_registry: dict[str, TaskType] = {}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # it is part of Redis keys, of routing keys and of URLs


def task_type(
    name: str,
    *,
    parameters: type[ParametersModel],
    max_retries: int = 3,
    time_limit_s: int = 300,
    rate_limit: str | None = None,
    example: Mapping[str, Any] | None = None,
    max_retry_delay_s: int | None = None,
    is_internal: bool = False,
) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of task type `name`.

    The function takes the validated parameters and a TaskContext and returns a JSON-able mapping, the result. Its
    docstring's first line describes the type to clients. It raises PermanentError to fail at once; TransientError
    and anything unexpected are retried up to `max_retries` times. An attempt may run `time_limit_s` seconds.
    `rate_limit` is written as "100/m" (s, m, h): so many starts over all workers together; what is over it starts
    later. `max_retry_delay_s` replaces MAX_RETRY_DELAY for this type. `is_internal`: the service's own work, which
    clients cannot submit. Raises ConfigurationError for a name or a rate that is none.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"task type {name!r}: expected lower-case letters, digits and _, at most 64")
    try:
        rate = RateLimit.parse(rate_limit) if rate_limit else None
    except ValueError as error:
        raise ConfigurationError(f"task type {name!r}: {error}") from error

    def register(handler: Handler) -> Handler:
        known = _registry.get(name)
        if known is not None and known.handler.__module__ != handler.__module__:
            raise ConfigurationError(
                f"task type {name!r} is defined by {known.handler.__module__} and {handler.__module__}"
            )
        description = (handler.__doc__ or name).strip().splitlines()[0]
        _registry[name] = TaskType(
            name=name,
            description=description,
            parameters_model=parameters,
            handler=handler,
            max_retries=max_retries,
            time_limit_s=time_limit_s,
            example=example or {},
            rate_limit=rate,
            max_retry_delay_s=max_retry_delay_s,
            is_internal=is_internal,
        )
        return handler

    return register


def load_task_types(
    extra_modules: Iterable[str] = (),
    rate_limits: Mapping[str, RateLimit] | None = None,
    *,
    dedicated: Collection[str] = (),
    with_internal: bool = False,
) -> dict[str, TaskType]:
    """Import the modules that define task types and return what is registered, by name, in order of definition.

    `rate_limits` replaces the types' own. `dedicated` names the types that have queues of their own, internal ones too.
    `with_internal` is for workers; everybody else sees what clients may submit.
    Raises ConfigurationError for a module or a type that does not exist.
    """
    for module in (*BUILT_IN_MODULES, *extra_modules):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise ConfigurationError(f"TASK_TYPE_MODULES: there is no module {module!r} to import") from error
    limits = rate_limits or {}
    if unknown := sorted(set(limits) - set(_registry)):
        raise ConfigurationError(f"RATE_LIMITS: {unknown[0]!r} is not one of: {', '.join(_registry)}")
    check_dedicated(dedicated, _registry)
    return {
        name: replace(kind, rate_limit=limits.get(name, kind.rate_limit), is_dedicated=name in dedicated)
        for name, kind in _registry.items()
        if with_internal or not kind.is_internal
    }


def internal_types() -> frozenset[str]:
    """Names of the types that lists leave out. Known once `load_task_types` has run."""
    return frozenset(name for name, kind in _registry.items() if kind.is_internal)
