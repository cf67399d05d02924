"""The web process dies, or starts too early, while clients submit."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from tests.faults.ledger import Answer, Batch, Outcome
from tests.faults.load import sleep_task
from tests.faults.scenario import Stage
from tests.faults.verbs import Verbs, copies, insist


def test_web_killed_between_publish_and_answer_keeps_the_task(stage: Stage) -> None:
    with stage.scenario(accepts=1, loses_connections=True) as scenario:
        stage.target.fail_point.touch()

        unsure = scenario.attempt(sleep_task({"seconds": 0.2}, key="killed-between-publish-and-answer"))
        was_answered = unsure.answers[-1].status_code is not None
        scenario.client.settle(unsure)
        scenario.wait_for_final([unsure])

        assert not was_answered
        assert unsure.outcome is Outcome.ACCEPTED
        assert len(scenario.executions(unsure)) == 1


def test_web_killed_during_a_batch_and_during_bulks_does_each_thing_once(stage: Stage) -> None:
    with stage.scenario(accepts=40, loses_connections=True) as scenario:
        verbs = Verbs(scenario.client, scenario.journal)
        members = [sleep_task(priority="high") for _ in range(20)]
        later = [scenario.submit(delay=600) for _ in range(10)]
        again = copies(members)
        scenario.submitted.extend([*members, *again])
        batch = Batch(members, key=uuid.uuid4().hex)

        asks: tuple[Callable[[], Answer], ...] = (
            lambda: verbs.submit(batch),
            lambda: verbs.retry_many(members, again),
            lambda: verbs.cancel_many(later),
        )
        for ask in asks:
            stage.target.fail_point.touch()
            assert ask().status_code is None, "the web answered: nothing is shown"
            last = insist(ask)
            scenario.wait_for_final(members)

        assert last.outcome is Outcome.ACCEPTED
        scenario.wait_for_final([*again, *later])
        assert {one.status for one in later} == {"cancelled"}


def test_clients_that_leave_before_the_answer_have_one_task_or_none(stage: Stage) -> None:
    with stage.scenario(accepts=30, loses_connections=True) as scenario:
        left = [sleep_task(key=key) for _ in range(30) for key in (None, uuid.uuid4().hex)]
        scenario.submitted.extend(left)
        for one in left:
            scenario.client.send_and_leave(one)
        for one in left:
            scenario.client.settle(one)

        scenario.wait_for_final(one for one in left if one.key)


def test_kill_9_of_the_web(stage: Stage) -> None:
    with stage.scenario(accepts=100, loses_connections=True) as scenario, scenario.load():
        stage.target.kill("web")

        scenario.wait_until_ready()
        scenario.recovered()


def test_web_started_before_the_broker_serves_when_it_comes(stage: Stage) -> None:
    with stage.scenario(accepts=60, loses_connections=True) as scenario, scenario.load():
        stage.target.stop("web", "rabbitmq")
        stage.target.start("web")
        refused = scenario.attempt(sleep_task())
        while refused.answers[-1].status_code is None:
            refused = scenario.attempt(sleep_task())

        stage.target.start("rabbitmq")
        scenario.recovered("rabbitmq")

        assert refused.outcome is Outcome.REFUSED
