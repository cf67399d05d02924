"""Upload, list, download and delete files.

Must not know where files are kept or which task needs them.
"""

from __future__ import annotations

import os
from typing import BinaryIO, cast
from urllib.parse import quote

from flask import Response, jsonify, request, send_file
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.routing import BaseConverter

from taskservice.api import views
from taskservice.api.description import problems
from taskservice.api.errors import Problem, Refusal
from taskservice.api.rooms import open_room
from taskservice.api.services import Services
from taskservice.errors import FieldError, InvalidSubmission
from taskservice.file_names import check_filename

UPLOAD_ENDPOINT = "files.upload"


class NameConverter(BaseConverter):
    """Whatever stands in the place of a name, separators included: the file store refuses it with 422."""

    regex = ".+"
    part_isolating = False
    weight = 200  # as werkzeug's own for paths: whatever is more exact comes first


class FileAddress(BaseModel):
    filename: str = Field(description="One path segment.")


def create_blueprint(services: Services) -> APIBlueprint:
    """The routes below /api/files."""
    blueprint = open_room("files", "/api/files")

    @blueprint.post(
        "",
        summary="Upload a file; one of the same name is replaced",
        openapi_extensions={"requestBody": _UPLOAD_BODY},
        responses={201: views.FileView, **problems(**_UPLOAD_PROBLEMS)},
    )
    def upload() -> Response:
        sent = _sent_file()
        stored = services.files.save(sent.filename or "", cast("BinaryIO", sent.stream))
        response = jsonify(views.stored_file(stored).model_dump())
        response.status_code = 201
        response.headers["Location"] = f"/api/files/{quote(stored.filename, safe='')}"
        return response

    @blueprint.get("", summary="List the files", responses={200: views.Files, **problems()})
    def list_files() -> Response:
        stored = [views.stored_file(file) for file in services.files.list()]
        return jsonify(views.Files(data=stored).model_dump())

    @blueprint.get(
        "/<name:filename>", summary="Download a file", responses={200: _DOWNLOAD, **problems(**_NAME_PROBLEMS)}
    )
    def download(path: FileAddress) -> Response:
        content = services.files.open(path.filename)
        size_bytes = content.seek(0, os.SEEK_END)
        content.seek(0)
        response = send_file(content, as_attachment=True, download_name=path.filename)
        response.content_length = size_bytes
        response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"  # it is a stranger's content
        return response

    @blueprint.delete(
        "/<name:filename>", summary="Delete a file", responses={204: None, **problems(**_DELETE_PROBLEMS)}
    )
    def delete(path: FileAddress) -> Response:
        filename = check_filename(path.filename)
        services.files.open(filename).close()  # that it does not exist comes before who needs it
        user_id = services.files_in_use.user_of(filename)
        if user_id is not None:
            raise Refusal(_in_use(user_id))
        services.files.delete(filename)
        return Response(status=204)

    return blueprint


def _sent_file() -> FileStorage:
    """The one part named `file`. Raises InvalidSubmission when there is none, or anything besides."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The body must be multipart/form-data with one part named file.")
    sent = request.files.getlist("file")
    errors = [FieldError(f"/{name}", "no such field") for name in {*request.form, *request.files} - {"file"}]
    if len(sent) != 1 or "file" in request.form:
        errors.append(FieldError("/file", "expected exactly one file, with its name"))
    elif not sent[0].filename:
        errors.append(FieldError("/file", "the file has no name"))
    if errors:
        raise InvalidSubmission(errors)
    return sent[0]


def _in_use(task_id: str) -> Problem:
    return Problem(409, "file_in_use", "A task that has not ended names this file.", members={"task_id": task_id})


_UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        }
    },
}
_DOWNLOAD = {
    "description": "The file's content",
    "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},  # by what the file is
}
_NAME_PROBLEMS = {"_404": "No file has this name.", "_422": "The name is not one path segment."}
_DELETE_PROBLEMS = {**_NAME_PROBLEMS, "_409": "A task that has not ended names the file; `task_id` says which."}
_UPLOAD_PROBLEMS = {
    "_408": "The body arrives too slowly.",
    "_413": "The file is larger than the upload limit.",
    "_415": "The body is not multipart/form-data.",
    "_422": "There is not exactly one file, or its name is not one path segment.",
}
