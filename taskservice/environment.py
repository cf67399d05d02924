"""Typed look-ups in an environment; every complaint names the variable, and never a value that may be secret.

Standard library only. Must not know which variables there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from taskservice.errors import ConfigurationError


class Environment:
    """An empty value counts as unset; NAME_FILE names a file holding NAME. Every method raises ConfigurationError."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "") -> str:
        return self._variables.get(name, "").strip() or default

    def secret(self, name: str) -> str:
        path = self.text(f"{name}_FILE")
        if not path:
            return self.text(name)
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{name}_FILE={path!r}: cannot be read ({error.strerror})") from error

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        text = self.text(name, str(default))
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ConfigurationError(f"{name}={text!r}: expected a whole number from {low} to {high}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name, "1" if default else "0").lower()
        if text not in _FLAGS:
            raise ConfigurationError(f"{name}={text!r}: expected one of {', '.join(_FLAGS)}")
        return _FLAGS[text]

    def choice(self, name: str, choices: tuple[str, ...], *, default: str) -> str:
        text = self.text(name, default)
        if text not in choices:
            raise ConfigurationError(f"{name}={text!r}: expected one of {', '.join(choices)}")
        return text

    def names(self, name: str) -> tuple[str, ...]:
        """What commas separate, each once."""
        return tuple(dict.fromkeys(part.strip() for part in self.text(name).split(",") if part.strip()))

    def url(self, name: str, schemes: tuple[str, ...], build: Callable[[], str]) -> str:
        """The variable itself, or what `build` makes of its parts."""
        text = self.secret(name) or build()
        if not is_url(text, schemes):  # the value may hold a password, so it is not repeated
            raise ConfigurationError(f"{name}: expected a URL such as {schemes[0]}://user:password@host:port/path")
        return text


_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def is_url(text: str, schemes: tuple[str, ...]) -> bool:
    """Of one of these schemes, with a host, and a port that can be one."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
