"""The task service: accept over HTTP, hold in RabbitMQ, run in Celery, keep in Redis."""

__version__ = "0.2.0"
