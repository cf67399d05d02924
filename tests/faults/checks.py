"""What a run is judged by, rule by rule, each failure with its evidence.

Pure functions of the evidence; they know neither HTTP nor processes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tests.faults.ledger import (
    FINAL,
    Answer,
    Call,
    Execution,
    Kill,
    Outcome,
    Sighting,
    Submitted,
    Survey,
    Verb,
)  # fmt: skip

ANSWER_WITHIN_S = 5.0
CLIENT_SLACK_S = 0.5  # until a client thread on a busy machine reads the clock
RECOVERY_S = 10.0
SHOWN = 3  # pieces of evidence per rule
_ORDER = {"scheduled": 0, "queued": 1, "running": 2, "retrying": 2, **dict.fromkeys(FINAL, 3)}
_PROBLEM_MEMBERS = {
    "type", "title", "status", "detail", "instance", "request_id", "error", "errors", "outcome", "results",
}  # fmt: skip
_UNAVAILABLE = {"broker_unavailable": "broker", "store_unavailable": "store"}


Rule = Callable[["Evidence"], Iterator[str]]


@dataclass(frozen=True)
class Evidence:
    """Everything one scenario left behind."""

    submitted: Sequence[Submitted]
    executions: Sequence[Execution]
    kills: Sequence[Kill] = ()
    recoveries: Sequence[float] = ()  # when what was away had come back
    names: int = 0  # how many the scenario must have accepted
    loses_connections: bool = False  # the web process was killed or stopped: no answer is an answer then
    calls: Sequence[Call] = ()  # of all verbs but a single submission
    survey: Survey | None = None  # when lists and counts are to agree with what was read of each task

    @property
    def accepted(self) -> list[Submitted]:
        return [one for one in self.submitted if one.outcome is Outcome.ACCEPTED]

    @property
    def accepted_at(self) -> list[float]:
        """The moments of all 202s, in order."""
        return sorted(a.answered_at for one in self.submitted for a in one.answers if a.outcome is Outcome.ACCEPTED)

    @cached_property
    def _executions_by_mark(self) -> Mapping[str, Sequence[Execution]]:
        found: dict[str, list[Execution]] = defaultdict(list)
        for execution in self.executions:
            found[execution.mark].append(execution)
        return found

    @cached_property
    def _ids_by_mark(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for one in self.accepted:
            found[one.mark].add(str(one.task_id))
        return found

    def executions_of(self, one: Submitted) -> list[Execution]:
        """All with its mark, but for those of the other tasks that share it: what a bulk retry repeats has no own."""
        others = self._ids_by_mark.get(one.mark, set()) - {one.task_id}
        return [run for run in self._executions_by_mark.get(one.mark, ()) if run.task_id not in others]


def judge(evidence: Evidence, *further: Rule) -> list[str]:
    """Every rule that was broken, with up to three pieces of evidence each; empty when all held."""
    rules: tuple[Rule, ...] = (
        every_accepted_task_is_final, no_accepted_task_is_unknown, no_status_moves_backwards,
        only_what_was_meant_to_fails, nothing_refused_runs, a_key_names_one_task, nothing_runs_twice_without_a_kill,
        answers_are_in_time_and_say_why, enough_was_accepted, accepts_soon_after_recovery, *further,
    )  # fmt: skip
    found = []
    for rule in rules:
        failures = list(rule(evidence))
        if failures:
            shown = "\n\n".join(failures[:SHOWN])
            found.append(f"{rule.__name__.replace('_', ' ')}: {len(failures)} time(s)\n{shown}")
    return found


def lost(evidence: Evidence) -> list[Submitted]:
    """Promised, and at the end without a final status or without a record. A task meant to wait on is none of them."""
    return [one for one in evidence.accepted if one.status not in FINAL | one.final_statuses]


def every_accepted_task_is_final(evidence: Evidence) -> Iterator[str]:
    for one in lost(evidence):
        yield f"ends {one.status or 'unseen'}\n{timeline(one, evidence)}"


def no_accepted_task_is_unknown(evidence: Evidence) -> Iterator[str]:
    """GET never says 404 for a 202."""
    for one in evidence.accepted:
        if any(sighting.status_code == 404 for sighting in one.sightings):
            yield timeline(one, evidence)


def no_status_moves_backwards(evidence: Evidence) -> Iterator[str]:
    """Forward only, but for running -> retrying -> running; a final status stays; attempts only grow."""
    for one in evidence.accepted:
        seen = [sighting for sighting in one.sightings if sighting.status]
        for earlier, later in pairwise(seen):
            if _is_backwards(earlier, later):
                yield f"{earlier.status} -> {later.status}\n{timeline(one, evidence)}"


def only_what_was_meant_to_fails(evidence: Evidence) -> Iterator[str]:
    """And what was meant to fail does so for the reason it was meant to."""
    for one in evidence.accepted:
        if one.status not in FINAL:
            continue
        error_code = (one.task.get("error") or {}).get("code")
        if one.status not in one.final_statuses or (one.error_code and error_code != one.error_code):
            meant = "/".join(sorted(one.final_statuses))
            yield f"meant: {meant} {one.error_code or ''}, is {one.status} {error_code}\n{timeline(one, evidence)}"


def nothing_refused_runs(evidence: Evidence) -> Iterator[str]:
    """No answer but 202 left a task that runs; the outcome `unknown` alone leaves that open."""
    for one in evidence.submitted:
        if one.outcome in (Outcome.REFUSED, Outcome.UNEXPECTED) and evidence.executions_of(one):
            yield timeline(one, evidence)


def a_key_names_one_task(evidence: Evidence) -> Iterator[str]:
    """However often a submission was repeated, all its 202s and all its executions are of one task."""
    for one in evidence.submitted:
        answered = {str(a.document["task_id"]) for a in one.answers if a.outcome is Outcome.ACCEPTED}
        ids = answered | {execution.task_id for execution in evidence.executions_of(one)}
        if len(ids) > 1:
            yield f"tasks {sorted(ids)}\n{timeline(one, evidence)}"


def nothing_runs_twice_without_a_kill(evidence: Evidence) -> Iterator[str]:
    """One execution more is allowed for each kill that hit a running one."""
    for one in evidence.submitted:
        runs = evidence.executions_of(one)
        allowed = one.executions + sum(kill.hit(run) for run in runs for kill in evidence.kills)
        if len(runs) > allowed:
            yield f"{len(runs)} executions, {allowed} allowed\n{timeline(one, evidence)}"


def answers_are_in_time_and_say_why(evidence: Evidence) -> Iterator[str]:
    """Within 5 s; if not 202, then 503 with Retry-After that names what is missing and nothing else."""
    for one in evidence.submitted:
        for answer in one.answers:
            is_its_own = answer.verb is Verb.SUBMIT  # else it is a part of a call's
            if is_its_own and (flaw := flaw_of(answer, loses_connections=evidence.loses_connections)):
                yield f"{flaw}: {answer}\n  {dict(answer.document)}"


def enough_was_accepted(evidence: Evidence) -> Iterator[str]:
    accepted = len(evidence.accepted)
    if accepted < evidence.names:
        yield f"{accepted} accepted of at least {evidence.names}"


def accepts_soon_after_recovery(evidence: Evidence) -> Iterator[str]:
    for recovered_at in evidence.recoveries:
        waits = [at - recovered_at for at in evidence.accepted_at if at >= recovered_at]
        if not waits or waits[0] > RECOVERY_S:
            yield f"recovered {recovered_at:.3f}, first 202 " + (f"after {waits[0]:.1f} s" if waits else "never")


def ran_twice(evidence: Evidence) -> list[Submitted]:
    """Executed more often than its attempts ask for, with or without an excuse."""
    return [one for one in evidence.submitted if len(evidence.executions_of(one)) > one.executions]


def longest_gap_s(evidence: Evidence) -> float:
    """Between two 202s."""
    moments = evidence.accepted_at
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def timeline(one: Submitted, evidence: Evidence) -> str:
    """Everything known of one submission, in order of time."""
    runs = evidence.executions_of(one)
    events = [(answer.answered_at, str(answer)) for answer in one.answers]
    events += [(sighting.at, str(sighting)) for sighting in one.sightings]
    events += [(run.started_at, str(run)) for run in runs]
    calls = (call.answer for call in evidence.calls if one in call.names)
    events += [(answer.answered_at, str(answer)) for answer in calls if answer not in one.answers]
    events += [(kill.at, f"{kill.at:.3f} kill") for kill in evidence.kills if any(kill.hit(run) for run in runs)]
    title = f"  task {one.task_id} key={one.key} {dict(one.body)}"
    return "\n".join([title, *(f"    {text}" for _, text in sorted(events))])


def _is_a_conflict(answer: Answer) -> bool:
    """With what the task has come to meanwhile, which only a verb can meet."""
    return answer.status_code == 409 and answer.outcome is Outcome.REFUSED


def _is_backwards(earlier: Sighting, later: Sighting) -> bool:
    if earlier.status in FINAL:
        return later.status != earlier.status
    return _ORDER[str(later.status)] < _ORDER[str(earlier.status)] or later.attempt < earlier.attempt


def flaw_of(answer: Answer, *, loses_connections: bool) -> str | None:
    """What is wrong with it as an answer; None: it is in time, and says why if it is no success."""
    if answer.status_code is None:
        return None if loses_connections else "no answer"
    is_late = answer.took_s > ANSWER_WITHIN_S + CLIENT_SLACK_S
    if is_late and not (loses_connections and answer.outcome is Outcome.ACCEPTED):  # it waited for the web to start
        return "late"
    if answer.outcome in (Outcome.ACCEPTED, Outcome.IN_FLIGHT) or _is_a_conflict(answer):
        return None
    if answer.status_code != 503:
        return "neither success nor 503"
    missing = _UNAVAILABLE.get(str(answer.document.get("error")))
    names_it = missing is not None and str(answer.document.get("detail", "")).startswith(f"The {missing} ")
    if not names_it or set(answer.document) - _PROBLEM_MEMBERS:
        return "does not name what is missing, or says more"
    return None if answer.headers.get("Retry-After") else "no Retry-After"
