"""The registry of task types. A type is one module: its parameters model and its function under `@task_type`.

The modules here come with the service; `TASK_TYPE_MODULES` names further ones.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taskservice.errors import ConfigurationError
from taskservice.model import Handler, ParametersModel, TaskType

BUILT_IN_MODULES = (
    "taskservice.handlers.data_processing",
    "taskservice.handlers.email_sending",
    "taskservice.handlers.file_processing",
)

_registry: dict[str, TaskType] = {}


def task_type(
    name: str,
    *,
    parameters: type[ParametersModel],
    max_retries: int = 3,
    time_limit_s: int = 300,
    example: Mapping[str, Any] | None = None,
) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of task type `name`.

    The function takes the validated parameters and a TaskContext and returns a JSON-able mapping, the result. Its
    docstring's first line describes the type to clients. It raises PermanentError to fail at once; TransientError
    and anything unexpected are retried up to `max_retries` times. An attempt may run `time_limit_s` seconds.
    """

    def register(handler: Handler) -> Handler:
        known = _registry.get(name)
        if known is not None and known.handler.__module__ != handler.__module__:
            raise ConfigurationError(
                f"task type {name!r} is defined by {known.handler.__module__} and {handler.__module__}"
            )
        description = (handler.__doc__ or name).strip().splitlines()[0]
        _registry[name] = TaskType(name, description, parameters, handler, max_retries, time_limit_s, example or {})
        return handler

    return register


def load_task_types(extra_modules: Iterable[str] = ()) -> dict[str, TaskType]:
    """Import the modules that define task types and return what is registered, by name, in order of definition."""
    for module in (*BUILT_IN_MODULES, *extra_modules):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise ConfigurationError(f"TASK_TYPE_MODULES: there is no module {module!r} to import") from error
    return dict(_registry)
