"""The name of an uploaded file as a parameter of a task.

Must not open the file: whether it exists shows when the task runs.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from taskservice.errors import InvalidFileName
from taskservice.file_names import check_filename


def usable_filename(name: str) -> str:
    """The name as the store keeps it. Raises ValueError for one that no stored file can have."""
    try:
        return check_filename(name)
    except InvalidFileName as error:
        raise ValueError(error.errors[0].detail) from error


FileName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(usable_filename)]
