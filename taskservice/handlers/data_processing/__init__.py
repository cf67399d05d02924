"""Task type `data_processing`: statistics of text and numbers, a profile of rows, or the answer to one SQL query.

Must not know where files are kept. DuckDB is imported where it is used: the web needs only the parameters' model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskservice.context import TaskContext
from taskservice.handlers import task_type
from taskservice.handlers.data_processing.numbers import summarize_numbers
from taskservice.handlers.data_processing.parameters import MAX_QUERY_CHARS, DataProcessingParameters
from taskservice.handlers.data_processing.table import MAX_FILE_BYTES, is_rows, summarize_file, summarize_table
from taskservice.handlers.data_processing.text import summarize_text

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_QUERY_CHARS",
    "DataProcessingParameters",
    "process_data",
    "summarize_file",
    "summarize_table",
]


@task_type(
    "data_processing",
    parameters=DataProcessingParameters,
    max_retries=3,
    time_limit_s=300,
    example={"data": "test data"},
)
def process_data(parameters: DataProcessingParameters, context: TaskContext) -> Mapping[str, Any]:
    """Statistics of text or numbers, a profile of rows or of an uploaded table, or a SQL query over them."""
    if parameters.file:
        return summarize_file(parameters.file, parameters.query, context)
    if parameters.query or isinstance(parameters.data, dict) or is_rows(parameters.data):
        return summarize_table(
            parameters.data, parameters.query, on_wait=lambda: context.progress(0, 1, "working on the table")
        )
    if isinstance(parameters.data, str):
        return summarize_text(parameters.data)
    return summarize_numbers(parameters.data)
