"""The web's spine: one place that wires settings, broker, store, files and routes. `app` is what gunicorn serves.

Knows nothing of workers; opens no connection before a request needs one, so it may be forked.
"""

from __future__ import annotations

import logging
from typing import TypedDict, Unpack

import redis
from celery import Celery
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from celery_config import make_celery
from taskservice import __version__
from taskservice.api import (
    access,
    actions,
    batches,
    bodies,
    bulk,
    console,
    deliveries,
    description,
    errors,
    events,
    files,
    health,
    measures,
    queues,
    tasks,
    workers,
)
from taskservice.api.rooms import refuse_query
from taskservice.api.services import (
    KeyReservations,
    QueuePauses,
    RunTimes,
    Services,
    TaskIndex,
    TaskPublisher,
    TaskRecords,
    TaskWaiter,
)
from taskservice.dead_letters import DeadLetters
from taskservice.errors import ConfigurationError
from taskservice.files import FsspecFileStore
from taskservice.handlers import internal_types, load_task_types
from taskservice.live import Live
from taskservice.model import FileStore
from taskservice.publisher import Publisher
from taskservice.records import Records
from taskservice.records.deliveries import DeliveryLog
from taskservice.records.events import EventStream
from taskservice.records.idempotency import Reservations
from taskservice.records.index import TaskIndex as RedisIndex
from taskservice.records.keys import Keys, RememberedKeys
from taskservice.records.measures import Measures
from taskservice.records.pauses import Pauses
from taskservice.records.rates import Meter
from taskservice.records.roster import Roster
from taskservice.records.run_times import RunTimes as RedisRunTimes
from taskservice.settings import Settings, load_settings


class Brought(TypedDict, total=False):
    """What a caller may bring in the place of our own, as tests do."""

    publisher: TaskPublisher
    records: TaskRecords
    index: TaskIndex
    waiter: TaskWaiter
    run_times: RunTimes
    pauses: QueuePauses
    reservations: KeyReservations
    files: FileStore
    keys: access.KnownKeys


def create_app(settings: Settings | None = None, **brought: Unpack[Brought]) -> OpenAPI:
    """The WSGI application; settings come from the environment unless given. Raises ConfigurationError."""
    settings = settings or load_settings()
    logging.getLogger("taskservice").setLevel(settings.log_level)
    celery = make_celery(settings, role="web")
    store = Records.connect(settings.result_backend, retention_s=settings.result_retention_s)  # at its first use
    hidden = internal_types()
    live = Live(EventStream(store.client), brought.get("records", store), hidden_types=hidden)
    services = Services(
        publisher=brought.get("publisher") or Publisher(celery),
        records=brought.get("records", store),
        index=brought.get("index") or RedisIndex(store.client, hidden_types=hidden),
        waiter=brought.get("waiter", live),
        run_times=brought.get("run_times") or RedisRunTimes(store.client),
        pauses=brought.get("pauses") or Pauses(store.client),
        reservations=brought.get("reservations") or Reservations(store.client),
        files=brought.get("files") or FsspecFileStore(settings.files_url, max_upload_bytes=settings.max_upload_bytes),
        task_types=load_task_types(settings.task_type_modules, settings.rate_limits),
        max_upload_bytes=settings.max_upload_bytes,
        allows_private_callbacks=settings.webhooks_allow_http,
    )
    app = _describe()
    _stand_at_the_door(app, settings, services, store.client, brought.get("keys") or Keys(store.client))
    _route(app, services)
    _route_watching(app, services, celery, store.client, live)
    app.extensions.update(publisher=services.publisher, live=live)  # gunicorn.conf.py starts and ends them
    return app


def _describe() -> OpenAPI:
    app = OpenAPI(
        __name__,
        info=Info(title="Task service", version=__version__),
        security_schemes=description.SECURITY_SCHEMES,
        doc_ui=False,  # its page is at /openapi/; ours is /docs
        validation_error_model=description.ProblemDocument,
        validation_error_callback=refuse_query,
        validation_error_status=500,  # every route documents it, so the library adds no answer of its own form
        static_folder=None,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    return app


def _stand_at_the_door(
    app: OpenAPI, settings: Settings, services: Services, client: redis.Redis, keys: access.KnownKeys
) -> None:
    """What happens to every request: problems are answered, bodies bounded, strangers turned away."""
    errors.answer_problems(app)
    bodies.bound_bodies(
        app,
        upload_endpoint=files.UPLOAD_ENDPOINT,
        max_upload_bytes=services.max_upload_bytes,
        max_json_bytes={batches.ENDPOINT: batches.MAX_BODY_BYTES},
    )
    access.guard(app, _door(settings, keys, Meter(client)))


def _door(settings: Settings, keys: access.KnownKeys, meter: access.RateMeter) -> access.Door:
    """Whoever reaches the port must neither get in without a key nor see a traceback. Raises ConfigurationError."""
    address = access.public_address(settings.bind_address)
    if address is not None and settings.debug:
        raise ConfigurationError(
            f"BIND_ADDRESS or --host is {address!r}: FLASK_DEBUG is on, so only a loopback address is accepted"
        )
    if address is not None:
        access.require_keys(keys, address)
    return access.Door(
        keys=RememberedKeys(keys),
        meter=meter,
        default_rate=settings.api_rate_limit,
        is_public=address is not None,
        allowed_hosts=settings.allowed_hosts,
        trusted_proxies=settings.trusted_proxies,
    )


def _route(app: OpenAPI, services: Services) -> None:
    """What is done to tasks and files."""
    for room in (tasks, batches, actions, bulk, queues, files, health):
        app.register_api(room.create_blueprint(services))
    app.register_blueprint(description.create_blueprint(services))


def _route_watching(app: OpenAPI, services: Services, celery: Celery, client: redis.Redis, live: Live) -> None:
    """What tells how it goes."""
    sources = measures.Sources(
        publisher=services.publisher,
        index=services.index,
        pauses=services.pauses,
        measures=Measures(client),
        roster=Roster(client),
        dead_letters=DeadLetters(celery),
        internal_types=internal_types(),
    )
    app.register_api(measures.create_blueprint(sources))
    app.register_api(workers.create_blueprint(sources.roster))
    app.register_api(events.create_blueprint(services.records, services.index, live))
    app.register_api(deliveries.create_blueprint(services, DeliveryLog(client)))
    app.register_blueprint(console.create_blueprint())


app = create_app()
