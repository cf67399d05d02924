"""API keys in memory, for tests of the HTTP border."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from taskservice.errors import Unavailable
from taskservice.keys import ApiKey, Scope, make_key
from taskservice.model import RateLimit, now

EVERY_SCOPE = frozenset(Scope)


@dataclass
class MemoryKeys:
    """No key at first, so a loopback service is open. `asked` counts what it was asked."""

    kept: dict[str, ApiKey] = field(default_factory=dict)
    is_away: bool = False
    asked: int = 0

    def get(self, key_id: str) -> ApiKey | None:
        self._answer()
        return self.kept.get(key_id)

    def are_configured(self) -> bool:
        self._answer()
        return bool(self.kept)

    def make(self, *scopes: Scope, rate: RateLimit | None = None) -> str:
        key, text = make_key("test", frozenset(scopes) or EVERY_SCOPE, rate=rate)
        self.kept[key.key_id] = key
        return text

    def revoke_all(self) -> None:
        self.kept = {key_id: replace(key, revoked_at=now()) for key_id, key in self.kept.items()}

    def _answer(self) -> None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("store")
