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
    credentials,
    deliveries,
    description,
    errors,
    events,
    exposure,
    files,
    headers,
    health,
    measures,
    methods,
    queues,
    streams,
    tasks,
    workers,
)
from taskservice.api.rooms import refuse_query
from taskservice.api.services import (
    FilesInUse,
    KeyReservations,
    QueuePauses,
    RunTimes,
    Services,
    TaskIndex,
    TaskPublisher,
    TaskRecords,
    TaskWaiter,
)
from taskservice.context import FileStore
from taskservice.dead_letters import DeadLetters
from taskservice.errors import ConfigurationError
from taskservice.files import FsspecFileStore
from taskservice.handlers import internal_types, load_task_types
from taskservice.live import Live
from taskservice.management import Management
from taskservice.publisher import Publisher
from taskservice.records import Records
from taskservice.records.deliveries import DeliveryLog
from taskservice.records.events import EventStream
from taskservice.records.files_in_use import FilesInUse as RedisFilesInUse
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
    files_in_use: FilesInUse
    keys: credentials.KnownKeys


def create_app(settings: Settings | None = None, **brought: Unpack[Brought]) -> OpenAPI:
    """The WSGI application; settings come from the environment unless given. Raises ConfigurationError."""
    settings = settings or load_settings()
    logging.getLogger("taskservice").setLevel(settings.log_level)
    celery = make_celery(settings, role="web")
    store = Records.connect(settings.result_backend, retention_s=settings.result_retention_s)  # at its first use
    types = load_task_types(
        settings.task_type_modules,
        settings.rate_limits,
        dedicated=settings.dedicated_task_types,
        with_internal=True,
    )
    hidden = internal_types()
    live = Live(EventStream(store.client), brought.get("records", store), hidden_types=hidden)
    services = Services(
        publisher=brought.get("publisher") or Publisher(celery, known_types=types),
        records=brought.get("records", store),
        index=brought.get("index") or RedisIndex(store.client, hidden_types=hidden),
        waiter=brought.get("waiter", live),
        run_times=brought.get("run_times") or RedisRunTimes(store.client),
        pauses=brought.get("pauses") or Pauses(store.client),
        reservations=brought.get("reservations") or Reservations(store.client),
        in_hand=Management(settings.management_url, virtual_host=settings.virtual_host),
        files=brought.get("files") or FsspecFileStore(settings.files_url, max_upload_bytes=settings.max_upload_bytes),
        files_in_use=brought.get("files_in_use") or RedisFilesInUse(store.client),
        task_types={name: kind for name, kind in types.items() if not kind.is_internal},
        dedicated=settings.dedicated_task_types,
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
    app.url_map.merge_slashes = False  # a name with %2F at its start is refused by its own route, not redirected
    app.url_map.converters["name"] = files.NameConverter
    app.json.sort_keys = False  # type: ignore[attr-defined]
    return app


def _stand_at_the_door(
    app: OpenAPI, settings: Settings, services: Services, client: redis.Redis, keys: credentials.KnownKeys
) -> None:
    """What happens to every request: problems are answered, strangers turned away, and only then a body is read."""
    errors.answer_problems(app)
    headers.tell_browsers(app)
    streams.pace_bodies(app)
    access.guard(app, _door(settings, keys, Meter(client)))
    methods.keep_methods_exact(app)
    bodies.bound_bodies(
        app,
        upload_endpoint=files.UPLOAD_ENDPOINT,
        max_upload_bytes=services.max_upload_bytes,
        json_endpoints=dict.fromkeys((tasks.ENDPOINT, bulk.ENDPOINT, actions.RETRY_ENDPOINT), bodies.MAX_JSON_BYTES)
        | {batches.ENDPOINT: batches.MAX_BODY_BYTES},
    )


def _door(settings: Settings, keys: credentials.KnownKeys, meter: access.RateMeter) -> access.Door:
    """Whoever reaches the port must neither get in without a key nor see a traceback. Raises ConfigurationError."""
    address = exposure.public_address(settings.bind_address)
    if address is not None and settings.debug:
        raise ConfigurationError(
            f"BIND_ADDRESS or --host is {address!r}: FLASK_DEBUG is on, so only a loopback address is accepted"
        )
    if address is not None:
        exposure.require_keys(keys, address)
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
        task_types=services.task_types,
        dedicated=services.dedicated,
    )
    app.register_api(measures.create_blueprint(sources))
    app.register_api(workers.create_blueprint(sources.roster))
    app.register_api(events.create_blueprint(services.records, services.index, live))
    app.register_api(deliveries.create_blueprint(services, DeliveryLog(client)))
    app.register_blueprint(console.create_blueprint())


app = create_app()
