"""What a task can do to its worker, and what can be done to workers while they run tasks."""

from __future__ import annotations

import time

from tests.faults.load import PRIORITIES
from tests.faults.scenario import Scenario, Stage
from tests.faults.target import WORKERS
from tests.support.waiting import wait_until
from tests.support.worker_fail_point import Moment

TOO_LARGE_BYTES = 32 * 2**20
CONSUMER_TIMEOUT_MS = 8_000
CHANNEL_TICK_MS = 1_000  # how often RabbitMQ looks for overdue deliveries; a minute by default


def test_kill_9_of_a_worker_child_mid_task(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        victim = scenario.submit({"seconds": 3}, priority="normal")

        stage.target.kill_running(scenario.wait_for_start(victim))
        scenario.wait_for_final([victim])

        assert len(scenario.executions(victim)) == 2


def test_kill_9_of_a_worker_main_process(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        victim = scenario.submit({"seconds": 3}, priority="normal")
        scenario.wait_for_start(victim)

        stage.target.kill_main("worker-normal")
        scenario.wait_for_final([victim])

        assert len(scenario.executions(victim)) == 2


def test_kill_9_of_all_workers(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        victims = [scenario.submit({"seconds": 3}, priority=priority) for priority in ("high", "normal", "low")]
        for victim in victims:
            scenario.wait_for_start(victim)

        stage.target.kill(*WORKERS)
        scenario.wait_for_final(victims)

        assert [len(scenario.executions(victim)) for victim in victims] == [2, 2, 2]


def test_workers_are_stopped_with_tasks_running(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        running = scenario.submit({"seconds": 3}, priority="low")
        scenario.wait_for_start(running)

        stage.target.stop(*WORKERS)
        stage.target.start(*WORKERS)
        scenario.wait_for_final([running])

        assert len(scenario.executions(running)) == 1  # it finished within the grace


def test_tasks_that_outlast_the_grace_are_handed_back_and_are_never_lost(stage: Stage) -> None:
    """However often: three attempts of a task whose worker is *lost* would end it as failed."""
    with stage.scenario(accepts=3) as scenario:
        long = [scenario.submit({"seconds": 9}, priority=priority) for priority in PRIORITIES]
        for stops in range(1, 4):
            wait_until(lambda: all(len(scenario.executions(one)) == stops for one in long), 60, "all run again")  # noqa: B023
            stage.target.stop(*WORKERS)
            stage.target.start(*WORKERS)
        scenario.wait_for_final(long, 60)

        assert [len(scenario.executions(one)) for one in long] == [4, 4, 4]
        assert {one.task["attempt"] for one in long} == {1}


def test_a_child_killed_between_the_stored_end_and_the_acknowledgement_ran_once(stage: Stage) -> None:
    with stage.scenario(accepts=1) as scenario:
        stage.target.worker_fail_point.write_text(Moment.END_STORED)
        ended = scenario.submit()
        scenario.wait_for_final([ended])
        wait_until(lambda: not stage.target.worker_fail_point.exists(), 10, "the child died")
        scenario.wait_until_delivered()

        assert len(scenario.executions(ended)) == 1


def test_a_main_process_killed_between_a_retry_and_its_acknowledgement_counts_the_attempts_right(stage: Stage) -> None:
    with stage.scenario(accepts=1) as scenario:
        stage.target.worker_fail_point.write_text(Moment.RETRY_PUBLISHED)
        retried = scenario.submit({"fail_attempts": 1}, executions=2)
        wait_until(lambda: not stage.target.worker_fail_point.exists(), 20, "the worker died")
        stage.target.note_death(scenario.executions(retried)[0])
        scenario.wait_for_final([retried])
        scenario.wait_until_delivered()

        assert retried.task["attempt"] == 2
        assert {attempt["number"] for attempt in retried.task["attempts"]} == {1, 2}


def test_a_poison_task_fails_and_blocks_nobody(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        poison = scenario.submit(
            {"exit_worker": True}, priority="normal", final_statuses=["failed"], executions=3, error_code="worker_lost"
        )

        scenario.wait_for_final([poison], 90)


def test_a_task_beyond_its_hard_time_limit_fails_once(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        stubborn = scenario.submit(
            {"stubborn": True, "seconds": 120},
            task_type="short_sleep",
            final_statuses=["failed"],
            error_code="timed_out",
        )

        scenario.wait_for_final([stubborn], 45)


def test_a_task_that_ignores_cancellation_is_ended(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        stubborn = scenario.submit({"stubborn": True, "seconds": 120}, final_statuses=["cancelled"])
        scenario.wait_for_start(stubborn)

        assert scenario.client.cancel(stubborn) == 202
        scenario.wait_for_final([stubborn], 30)


def test_a_result_too_large_fails_once(stage: Stage) -> None:
    with stage.scenario(accepts=30) as scenario, scenario.load():
        huge = scenario.submit(
            {"result_bytes": TOO_LARGE_BYTES}, final_statuses=["failed"], error_code="result_too_large"
        )

        scenario.wait_for_final([huge])


def test_fails_six_times_then_succeeds(stage: Stage) -> None:
    with stage.scenario(accepts=3) as scenario:
        failing = [
            scenario.submit({"fail_attempts": 6}, priority=priority, max_retries=6, executions=7)
            for priority in ("high", "normal", "low")
        ]
        scenario.wait_for_final(failing, 90)

        assert [len(scenario.executions(one)) for one in failing] == [7, 7, 7]


def test_a_task_that_outlasts_the_consumer_timeout_runs_once(stage: Stage) -> None:
    with stage.scenario(accepts=4) as scenario:
        _set_consumer_timeout(scenario, CONSUMER_TIMEOUT_MS, CHANNEL_TICK_MS)
        try:
            deaths = [stage.target.deaths(worker) for worker in WORKERS]
            complaints = _complaints(scenario)
            long = scenario.submit({"seconds": 2 * CONSUMER_TIMEOUT_MS / 1000})
            others = [scenario.submit(priority=priority) for priority in ("high", "normal", "low")]
            scenario.wait_for_final([long, *others], 60)

            assert _complaints(scenario) > complaints, "RabbitMQ did not find it overdue: nothing is shown"
            assert len(scenario.executions(long)) == 1
            assert [stage.target.deaths(worker) for worker in WORKERS] == deaths
        finally:
            _set_consumer_timeout(scenario, 2 * 3600 * 1000, 60_000)


def _complaints(scenario: Scenario) -> int:
    """How often RabbitMQ has closed a channel for a delivery that nobody acknowledged in time."""
    return scenario.target.log("rabbitmq").count("has timed out waiting for")  # the rest differs between versions


def _set_consumer_timeout(scenario: Scenario, timeout_ms: int, tick_ms: int) -> None:
    """A channel reads both when it is opened, so the workers connect anew."""
    settings = {"consumer_timeout": timeout_ms, "channel_tick_interval": tick_ms}
    for name, value in settings.items():
        scenario.target.rabbitmqctl("eval", f"application:set_env(rabbit, {name}, {value}).")
    scenario.target.stop(*WORKERS)
    scenario.target.start(*WORKERS)
    scenario.wait_until_ready()


def test_workers_started_before_the_broker_wait_for_it(stage: Stage) -> None:
    with stage.scenario(accepts=60) as scenario, scenario.load():
        stage.target.stop(*WORKERS, "rabbitmq")
        stage.target.start(*WORKERS)
        time.sleep(8)  # long enough for each to have tried and failed
        deaths = [stage.target.deaths(worker) for worker in WORKERS]

        stage.target.start("rabbitmq")
        scenario.recovered("rabbitmq")
        wait_until(lambda: scenario.client.missing() == [], 60, "the workers consume")

        assert [stage.target.deaths(worker) for worker in WORKERS] == deaths
