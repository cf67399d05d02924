"""The web's spine: one place that wires settings, broker, store, files and routes. `app` is what gunicorn serves.

Knows nothing of workers; opens no connection before a request needs one, so it may be forked.
"""

from __future__ import annotations

import logging

from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from celery_config import make_celery
from taskservice import __version__
from taskservice.api import actions, bodies, bulk, description, errors, files, health, queues, tasks
from taskservice.api.services import (
    KeyReservations,
    QueuePauses,
    Services,
    TaskIndex,
    TaskPublisher,
    TaskRecords,
)
from taskservice.errors import ConfigurationError
from taskservice.files import FsspecFileStore
from taskservice.handlers import load_task_types
from taskservice.model import FileStore
from taskservice.publisher import Publisher
from taskservice.records import Records
from taskservice.records.idempotency import Reservations
from taskservice.records.index import TaskIndex as RedisIndex
from taskservice.records.pauses import Pauses
from taskservice.settings import Settings, load_settings


def create_app(
    settings: Settings | None = None,
    *,
    publisher: TaskPublisher | None = None,
    records: TaskRecords | None = None,
    index: TaskIndex | None = None,
    pauses: QueuePauses | None = None,
    reservations: KeyReservations | None = None,
    files: FileStore | None = None,
) -> OpenAPI:
    """The WSGI application; settings come from the environment unless given. Raises ConfigurationError."""
    settings = settings or load_settings()
    _refuse_to_be_public(settings)
    logging.getLogger("taskservice").setLevel(settings.log_level)
    store = Records.connect(settings.result_backend, retention_s=settings.result_retention_s)  # at its first use
    services = Services(
        publisher=publisher or Publisher(make_celery(settings, role="web")),
        records=records or store,
        index=index or RedisIndex(store.client),
        pauses=pauses or Pauses(store.client),
        reservations=reservations or Reservations(store.client),
        files=files or FsspecFileStore(settings.files_url, max_upload_bytes=settings.max_upload_bytes),
        task_types=load_task_types(settings.task_type_modules, settings.rate_limits),
        max_upload_bytes=settings.max_upload_bytes,
    )
    app = _route(services)
    app.extensions["publisher"] = services.publisher  # gunicorn.conf.py starts it in each worker
    return app


def _route(services: Services) -> OpenAPI:
    app = OpenAPI(
        __name__,
        info=Info(title="Task service", version=__version__),
        doc_ui=False,  # its page is at /openapi/; ours is /docs
        validation_error_model=description.ProblemDocument,
        validation_error_status=500,  # every route documents it, so the library adds no answer of its own form
        static_folder=None,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    errors.answer_problems(app)
    bodies.bound_bodies(app, upload_endpoint=files.UPLOAD_ENDPOINT, max_upload_bytes=services.max_upload_bytes)
    for room in (tasks, actions, bulk, queues, files, health):
        app.register_api(room.create_blueprint(services))
    app.register_blueprint(description.create_blueprint(services))
    return app


def _refuse_to_be_public(settings: Settings) -> None:
    """Whoever reaches the port may submit and read everything, so only this machine may reach it."""
    if settings.binds_loopback_only:
        return
    reason = "FLASK_DEBUG is on" if settings.debug else "there are no API keys to tell callers apart"
    raise ConfigurationError(
        f"BIND_ADDRESS={settings.bind_address!r}: {reason}, so only a loopback address is accepted; "
        "set BIND_ADDRESS=127.0.0.1 and reach it through an SSH tunnel or an authenticating proxy"
    )


app = create_app()
