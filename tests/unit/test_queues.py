"""Which queue carries a task, and the words of a list of types that have queues of their own."""

from __future__ import annotations

import pytest

from celery_config import WORK_QUEUE_ARGUMENTS, make_celery
from taskservice.errors import ConfigurationError
from taskservice.handlers import load_task_types
from taskservice.model import Priority
from taskservice.queues import WorkQueue, queue_for, unlisted_queues, work_queues
from taskservice.settings import load_settings
from taskservice.submission import parse_submission

EMAIL = {"DEDICATED_TASK_TYPES": "email_sending"}


def test_only_a_listed_type_has_queues_of_its_own() -> None:
    assert queue_for("email_sending", Priority.HIGH, ("email_sending",)) == "high_priority.email_sending"
    assert queue_for("file_processing", Priority.HIGH, ("email_sending",)) == "high_priority"
    assert queue_for("email_sending", Priority.LOW, ()) == "low_priority"


def test_every_queue_is_found_by_its_name() -> None:
    for queue in work_queues(["email_sending"]):
        assert WorkQueue.named(queue.name) == queue


@pytest.mark.parametrize("name", ["dead_letter", "high", "urgent_priority", "high_priority.", ""])
def test_other_names_are_no_work_queues(name: str) -> None:
    with pytest.raises(ValueError, match="is n"):
        WorkQueue.named(name)


def test_the_queues_of_types_that_are_not_listed_are_known_by_name() -> None:
    found = [queue.name for queue in unlisted_queues(["a", "b"], ["b"])]

    assert found == ["high_priority.a", "normal_priority.a", "low_priority.a"]


def test_a_dedicated_queue_is_on_its_prioritys_exchange_under_a_key_of_one_word() -> None:
    queues = {queue.name: queue for queue in make_celery(load_settings(EMAIL), role="web").conf.task_queues}

    own = queues["high_priority.email_sending"]
    assert (own.exchange.name, own.exchange.type, own.routing_key) == ("high_priority", "topic", "high_email_sending")
    assert own.queue_arguments == queues["high_priority"].queue_arguments == WORK_QUEUE_ARGUMENTS
    assert len(queues) == 6


def test_no_two_keys_are_alike() -> None:
    kinds = load_task_types(with_internal=True)
    keys = [queue.routing_key for queue in work_queues(kinds)]

    assert len(set(keys)) == len(keys)
    assert not any("." in key for key in keys)


def test_types_of_the_service_itself_may_be_listed() -> None:
    kinds = load_task_types(dedicated=["webhook_delivery"], with_internal=True)

    assert [name for name, kind in kinds.items() if kind.is_dedicated] == ["webhook_delivery"]


def test_an_unknown_type_is_named_with_what_there_is() -> None:
    dedicated = load_settings({"DEDICATED_TASK_TYPES": "email_sending,emails"}).dedicated_task_types

    with pytest.raises(ConfigurationError, match=r"DEDICATED_TASK_TYPES: 'emails' is not one of: .*email_sending"):
        load_task_types(dedicated=dedicated)


def test_a_submission_knows_the_queue_it_is_put_into() -> None:
    body = {"task_type": "data_processing", "priority": "low", "parameters": {"data": "x"}}

    shared = parse_submission(body, load_task_types())
    own = parse_submission(body, load_task_types(dedicated=["data_processing"]))

    assert (shared.queue, own.queue) == ("low_priority", "low_priority.data_processing")
    assert type(own).from_message(own.to_message()).queue == own.queue
