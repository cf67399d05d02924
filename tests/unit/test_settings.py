"""The environment is read strictly: a wrong value names its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskservice.errors import ConfigurationError
from taskservice.model import RateLimit
from taskservice.records.connection import StoreAddress, without_secrets
from taskservice.settings import load_settings


def test_an_empty_environment_is_a_laptop() -> None:
    settings = load_settings({})

    assert settings.broker_url == "amqp://guest:guest@localhost:5672//"
    assert settings.result_backend == "redis://localhost:6379/0"
    assert settings.binds_loopback_only


def test_a_broker_url_wins_over_its_parts() -> None:
    settings = load_settings({"CELERY_BROKER_URL": "amqp://u:p@broker/v", "RABBITMQ_HOST": "elsewhere"})

    assert settings.broker_url == "amqp://u:p@broker/v"


def test_a_broker_may_have_several_nodes() -> None:
    urls = "amqp://u:p@a:5672//;amqp://u:p@b:5672//"

    by_url = load_settings({"CELERY_BROKER_URL": urls.replace(";", " ; ")})
    by_hosts = load_settings({"RABBITMQ_HOST": "a, b", "RABBITMQ_USER": "u", "RABBITMQ_PASSWORD": "p"})

    assert by_url.broker_url == by_hosts.broker_url == urls
    assert by_url.has_several_brokers


@pytest.mark.parametrize("bad", ["amqp://u:s3cret@:5672//", "redis://:s3cret@b", "amqp://u:s3cret@b:x//", ""])
def test_each_node_of_a_broker_is_checked(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="CELERY_BROKER_URL, URL 2 of 3") as caught:
        load_settings({"CELERY_BROKER_URL": f"amqp://u:s3cret@a:5672//;{bad};amqp://u:s3cret@c:5672//"})

    assert "s3cret" not in str(caught.value)


def test_the_management_api_is_asked_with_the_brokers_login_unless_it_has_its_own(tmp_path: Path) -> None:
    broker = {"RABBITMQ_USER": "us/er", "RABBITMQ_PASSWORD": "p@ss", "RABBITMQ_HOST": "a,b"}
    secret = tmp_path / "secret"
    secret.write_text("https://monitor:hidden@m:15671\n", encoding="utf-8")

    assert load_settings({}).management_url is None
    borrowed = load_settings(broker | {"RABBITMQ_MANAGEMENT_URL": "http://a:15672"})
    assert borrowed.management_url == "http://us%2Fer:p%40ss@a:15672"
    own = load_settings(broker | {"RABBITMQ_MANAGEMENT_URL_FILE": str(secret)})
    assert own.management_url == "https://monitor:hidden@m:15671"


@pytest.mark.parametrize(
    ("url", "name"), [("amqp://h//", "/"), ("amqp://h", "/"), ("amqp://h/tasks", "tasks"), ("amqp://h/%2Fa", "/a")]
)
def test_the_virtual_host_is_the_brokers(url: str, name: str) -> None:
    assert load_settings({"CELERY_BROKER_URL": url}).virtual_host == name


def test_dedicated_task_types_are_listed_once() -> None:
    settings = load_settings({"DEDICATED_TASK_TYPES": " email_sending,data_processing, email_sending,"})

    assert settings.dedicated_task_types == ("email_sending", "data_processing")


def test_the_parts_of_a_broker_url_are_escaped() -> None:
    settings = load_settings({"RABBITMQ_USER": "us/er", "RABBITMQ_PASSWORD": "p@ss", "RABBITMQ_HOST": "broker"})

    assert settings.broker_url == "amqp://us%2Fer:p%40ss@broker:5672//"


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden\n", encoding="utf-8")

    assert load_settings({"REDIS_PASSWORD_FILE": str(secret)}).result_backend == "redis://:hidden@localhost:6379/0"


def test_sentinels_carry_what_celerys_form_does_not_say() -> None:
    settings = load_settings(
        {
            "CELERY_RESULT_BACKEND": "sentinel://:pw@one:26379;sentinel://two:26379",
            "REDIS_SENTINEL_MASTER": "tasks",
            "REDIS_SENTINEL_PASSWORD": "p&w",
            "REDIS_REPLICAS_TO_WAIT_FOR": "1",
        }
    )

    address = StoreAddress.parse(settings.result_backend)

    assert address.url == "sentinel://:pw@one:26379;sentinel://two:26379"
    assert address.sentinels == (("one", 26379), ("two", 26379))
    assert (address.master_name, address.sentinel_password, address.replicas_to_wait_for) == ("tasks", "p&w", 1)


def test_a_single_redis_keeps_its_own_parameters_beside_the_replicas() -> None:
    url = "rediss://store:6379/0?ssl_cert_reqs=none"

    settings = load_settings({"CELERY_RESULT_BACKEND": url, "REDIS_REPLICAS_TO_WAIT_FOR": "2"})

    address = StoreAddress.parse(settings.result_backend)
    assert (address.url, address.sentinels, address.replicas_to_wait_for) == (url, (), 2)


def test_no_password_is_shown_of_a_stores_url() -> None:
    settings = load_settings(
        {
            "CELERY_RESULT_BACKEND": "sentinel://:s3cret@one:26379;sentinel://:s3cret@two",
            "REDIS_SENTINEL_PASSWORD": "s3cret",
        }
    )

    assert without_secrets(settings.result_backend) == "sentinel://**@one:26379;sentinel://**@two"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELERY_BROKER_URL", "http://broker"),
        ("RABBITMQ_HOST", "a,b:5672"),
        ("RABBITMQ_MANAGEMENT_URL", "management:15672"),
        ("CELERY_RESULT_BACKEND", "redis://host:99999"),
        ("CELERY_RESULT_BACKEND", "sentinel://one:26379;redis://two:6379"),
        ("CELERY_RESULT_BACKEND", "sentinel://one:26379;sentinel://:26379"),
        ("REDIS_REPLICAS_TO_WAIT_FOR", "most"),
        ("BIND_ADDRESS", "everywhere"),
        ("FLASK_DEBUG", "maybe"),
        ("MAX_RETRY_DELAY", "soon"),
        ("REPUBLISH_AFTER", "4"),
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
