"""The parameters of `file_processing`: what a client may send, and their JSON Schema.

Must not open a file: whether it exists, and what it is, shows when the task runs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from taskservice.handlers.filenames import usable_filename


class Operation(StrEnum):
    """What to do with the file."""

    INSPECT = "inspect"
    CHECKSUM = "checksum"
    EXTRACT_TEXT = "extract_text"
    THUMBNAIL = "thumbnail"
    CONVERT = "convert"
    COMPRESS = "compress"


_OPERATIONS_WITH = {
    "output": (Operation.EXTRACT_TEXT, Operation.THUMBNAIL, Operation.CONVERT, Operation.COMPRESS),
    "algorithm": (Operation.CHECKSUM,),
    "size_px": (Operation.THUMBNAIL,),
    "format": (Operation.CONVERT,),
    "method": (Operation.COMPRESS,),
}


class FileProcessingParameters(BaseModel):
    """An uploaded file, an operation, and that operation's own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filename: str = Field(description="name of an uploaded file")
    operation: Operation = Operation.INSPECT
    output: str | None = Field(None, description="name of the file to make; derived from filename and task if absent")
    algorithm: Literal["sha256", "sha512", "md5", "blake2b"] = Field("sha256", description="checksum only")
    size_px: int = Field(256, ge=16, le=2048, strict=True, description="thumbnail only: the square it fits into")
    format: Literal["png", "jpeg", "webp", "csv", "json", "ndjson", "parquet"] | None = Field(
        None, validate_default=True, description="convert only, and required there; images to images, tables to tables"
    )
    method: Literal["gzip", "zip", "bz2", "xz"] = Field("gzip", description="compress only")

    @field_validator("filename", "output")
    @classmethod
    def _is_safe(cls, name: str | None) -> str | None:
        return None if name is None else usable_filename(name)

    @field_validator("output", "algorithm", "size_px", "format", "method")
    @classmethod
    def _belongs_to_operation(cls, value: Any, info: ValidationInfo) -> Any:
        operation = info.data.get("operation")
        allowed = _OPERATIONS_WITH[info.field_name or ""]
        if value is not None and operation is not None and operation not in allowed:
            raise ValueError(f"is not an option of {operation.value}, only of {', '.join(allowed)}")
        return value

    @field_validator("output")
    @classmethod
    def _is_another_file(cls, output: str | None, info: ValidationInfo) -> str | None:
        if output is not None and output == info.data.get("filename"):
            raise ValueError("must differ from filename: a second attempt would read what the first has made")
        return output

    @field_validator("format")
    @classmethod
    def _is_given_for_convert(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("operation") is Operation.CONVERT:
            raise ValueError("is required by convert")
        return value
