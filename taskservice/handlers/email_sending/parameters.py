"""The parameters of `email_sending`: what a client may send, and their JSON Schema.

Must not know how a message is built or sent.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from taskservice.handlers.email_sending.addresses import Address, Addresses, listed
from taskservice.handlers.filenames import FileName

MAX_RECIPIENTS = 100  # RFC 5321 4.5.3.1.8: what every server must take in one transaction
MAX_ATTACHMENTS = 10


def _one_line(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        raise PydanticCustomError("one_line", "line breaks and control characters are not allowed here")
    return value


class EmailParameters(BaseModel):
    """What to send to whom. From is the deployment's (`SMTP_FROM`), never the client's."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"anyOf": [{"required": ["body"]}, {"required": ["html"]}]}
    )

    to: Addresses = Field(description="One address, or a list of up to 50.")
    cc: Addresses | None = Field(None, description="One address or a list; every recipient sees them.")
    bcc: Addresses | None = Field(None, description="One address or a list; no recipient sees them.")
    reply_to: Address | None = Field(None, description="Where answers go, if not to the sender.")
    subject: Annotated[str, AfterValidator(_one_line)] = Field(min_length=1, max_length=998)
    body: str | None = Field(None, description="Plain text. Either this or html is needed, or both.")
    html: str | None = Field(None, description="HTML; with body as its plain-text alternative if both are given.")
    attachments: list[FileName] = Field(
        default_factory=list,
        max_length=MAX_ATTACHMENTS,
        description="Names of uploaded files, together up to 10 MiB.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> EmailParameters:
        if self.body is None and self.html is None:
            raise _field_error("body", "body or html is required")
        if len(self.recipients) > MAX_RECIPIENTS:
            raise _field_error(
                "to", f"to, cc and bcc have {len(self.recipients)} recipients, {MAX_RECIPIENTS} are allowed"
            )
        return self

    @property
    def recipients(self) -> list[str]:
        """Everyone in to, cc and bcc, each once, in that order."""
        return list(dict.fromkeys([*listed(self.to), *listed(self.cc), *listed(self.bcc)]))


def _field_error(field: str, message: str) -> ValidationError:
    """An error of the whole model that points at one field."""
    error = PydanticCustomError("email", "{text}", {"text": message})
    return ValidationError.from_exception_data("EmailParameters", [{"type": error, "loc": (field,), "input": None}])
