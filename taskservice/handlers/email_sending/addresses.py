"""E-mail addresses, the client's and the deployment's, in the form SMTP wants.

Must not know what is sent to them.
"""

from __future__ import annotations

from email.utils import parseaddr
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field, PlainValidator, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError

from taskservice.context import MailServer

MAX_ADDRESSES = 50  # in each of to, cc and bcc
_MAX_ADDRESS_LENGTH = 254


def _address(value: str) -> str:
    """The address in the form SMTP wants: domain in ASCII, and the local part too unless it cannot be."""
    if len(value) > _MAX_ADDRESS_LENGTH:
        raise PydanticCustomError("email_address", "an e-mail address has at most 254 characters")
    try:
        valid = validate_email(value, check_deliverability=False)
    except EmailNotValidError as error:
        reason = str(error)
        raise PydanticCustomError("email_address", "not an e-mail address: {reason}", {"reason": reason}) from error
    return valid.ascii_email or valid.normalized


Address = Annotated[str, AfterValidator(_address), WithJsonSchema({"type": "string", "format": "email"})]

_address_list: TypeAdapter[list[str]] = TypeAdapter(
    Annotated[list[Address], Field(min_length=1, max_length=MAX_ADDRESSES)]
)


def _one_or_many(value: Any) -> str | list[str]:
    """A union would put its branches' names into the error's location, and the client's pointer would lead nowhere."""
    if isinstance(value, str):
        return _address(value)
    if not isinstance(value, list):
        raise PydanticCustomError("addresses", "expected an e-mail address or a list of them")
    return _address_list.validate_python(value)


Addresses = Annotated[
    str | list[str],
    PlainValidator(_one_or_many),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "email"},
                {
                    "type": "array",
                    "items": {"type": "string", "format": "email"},
                    "minItems": 1,
                    "maxItems": MAX_ADDRESSES,
                },
            ]
        }
    ),
]


def listed(addresses: str | list[str] | None) -> list[str]:
    if addresses is None:
        return []
    return [addresses] if isinstance(addresses, str) else addresses


def sender_domain(server: MailServer) -> str:
    return sender_address(server).rpartition("@")[2]


def sender_address(server: MailServer) -> str:
    return parseaddr(server.sender)[1]
