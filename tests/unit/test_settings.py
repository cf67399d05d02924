"""The environment is read strictly: a wrong value names its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskservice.errors import ConfigurationError
from taskservice.model import RateLimit
from taskservice.settings import load_settings


def test_an_empty_environment_is_a_laptop() -> None:
    settings = load_settings({})

    assert settings.broker_url == "amqp://guest:guest@localhost:5672//"
    assert settings.result_backend == "redis://localhost:6379/0"
    assert settings.binds_loopback_only


def test_a_broker_url_wins_over_its_parts() -> None:
    settings = load_settings({"CELERY_BROKER_URL": "amqp://u:p@broker/v", "RABBITMQ_HOST": "elsewhere"})

    assert settings.broker_url == "amqp://u:p@broker/v"


def test_the_parts_of_a_broker_url_are_escaped() -> None:
    settings = load_settings({"RABBITMQ_USER": "us/er", "RABBITMQ_PASSWORD": "p@ss", "RABBITMQ_HOST": "broker"})

    assert settings.broker_url == "amqp://us%2Fer:p%40ss@broker:5672//"


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden\n", encoding="utf-8")

    assert load_settings({"REDIS_PASSWORD_FILE": str(secret)}).result_backend == "redis://:hidden@localhost:6379/0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELERY_BROKER_URL", "http://broker"),
        ("CELERY_RESULT_BACKEND", "redis://host:99999"),
        ("BIND_ADDRESS", "everywhere"),
        ("FLASK_DEBUG", "maybe"),
        ("MAX_RETRY_DELAY", "soon"),
        ("SMTP_PORT", "0"),
        ("SMTP_SECURITY", "ssl3"),
        ("LOG_LEVEL", "LOUD"),
        ("RATE_LIMITS", "email_sending"),
        ("RATE_LIMITS", "email_sending=0/m"),
        ("RATE_LIMITS", "email_sending=5/year"),
        ("SMTP_PASSWORD_FILE", "/does/not/exist"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_settings({name: value})


def test_a_complaint_about_a_url_keeps_its_password_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"CELERY_BROKER_URL": "amqp://user:s3cret@host:port"})

    assert "s3cret" not in str(caught.value)


def test_rate_limits_are_read_per_type() -> None:
    settings = load_settings({"RATE_LIMITS": "email_sending=100/m, data_processing=2/s"})

    assert settings.rate_limits == {"email_sending": RateLimit(100, 60), "data_processing": RateLimit(2, 1)}
