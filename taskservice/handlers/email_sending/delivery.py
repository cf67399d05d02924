"""What became of a message, recipient by recipient, across the attempts of a task.

Must not know how it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from taskservice.errors import PermanentError, TransientError
from taskservice.handlers.email_sending.replies import is_permanent


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the server answered for a recipient it did not take."""

    address: str
    code: int
    message: str

    @property
    def is_final(self) -> bool:
        return is_permanent(self.code)

    def __str__(self) -> str:
        return f"{self.address}: {self.code} {self.message}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Who has the message, and who was refused for good or for now."""

    accepted: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @classmethod
    def from_mark(cls, mark: Mapping[str, Any] | None) -> Delivery:
        if mark is None:
            return cls()
        return cls(tuple(mark["accepted"]), tuple(Refusal(**refusal) for refusal in mark["refused"]))

    def to_mark(self) -> dict[str, Any]:
        """What must not be tried again, as JSON values."""
        return {
            "accepted": list(self.accepted),
            "refused": [asdict(refusal) for refusal in self.refused if refusal.is_final],
        }

    def waiting(self, recipients: Iterable[str]) -> list[str]:
        settled = {*self.accepted, *(refusal.address for refusal in self.refused if refusal.is_final)}
        return [address for address in recipients if address not in settled]

    def plus(self, other: Delivery) -> Delivery:
        return Delivery(self.accepted + other.accepted, self.refused + other.refused)


def raise_unless_settled(delivery: Delivery) -> None:
    """Raises TransientError if a recipient is to be tried again, PermanentError if none was accepted."""
    later = [refusal for refusal in delivery.refused if not refusal.is_final]
    if later:
        sent = f"delivered to {len(delivery.accepted)}; " if delivery.accepted else ""
        listed = "; ".join(map(str, delivery.refused if not delivery.accepted else later))
        raise TransientError("smtp_unavailable", f"{sent}the mail server put off {listed}")
    if not delivery.accepted:
        listed = "; ".join(map(str, delivery.refused))
        raise PermanentError("smtp_refused", f"the mail server refused every recipient: {listed}")
