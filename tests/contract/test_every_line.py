"""What covers what: every clause of API.md, in its order, and the tests that show it.

Clauses that need a fault, a restart or a look into the store are shown by tests of other suites, named here too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

CLAUSES: dict[str, dict[str, tuple[str, ...]]] = {
    "The HTTP contract": {
        "Members nobody defined are refused (422), never ignored.": (
            "contract/test_submit.py::test_members_nobody_defined_are_refused",
        ),
        "Times are RFC 3339 UTC with milliseconds, durations are seconds (numbers), names are snake_case.": (
            "contract/test_read.py::test_times_and_durations_have_one_form",
        ),
    },
    "Two words for where a task is": {
        "`state` is Celery's own word, so that what a client reads here is what … `AsyncResult` say.": (
            "contract/test_status_words.py::test_the_state_is_what_celery_s_own_clients_read",
        ),
        (
            "`status` is the precise lifecycle word. Both are always present; `status` never moves backwards "
            "except running -> retrying -> running."
        ): ("contract/test_status_words.py::test_a_status_moves_forwards_except_for_a_retry",),
        "`status` never moves backwards": ("contract/test_status_words.py::test_nothing_moves_a_final_task",),
        "scheduled | PENDING | accepted, held by the broker until `due_at`": (
            "contract/test_status_words.py::test_a_scheduled_task",
        ),
        "queued | PENDING | accepted, in its priority queue, no worker has started it": (
            "contract/test_status_words.py::test_a_queued_task",
        ),
        "running | STARTED | a worker is executing attempt `attempt`": (
            "contract/test_status_words.py::test_a_running_task",
        ),
        "retrying | RETRY | attempt failed, the next one is held by the broker until `due_at`": (
            "contract/test_status_words.py::test_a_retrying_task",
        ),
        "succeeded | SUCCESS | final; `result` is there": ("contract/test_status_words.py::test_a_succeeded_task",),
        "failed | FAILURE | final; `error` is there": ("contract/test_status_words.py::test_a_failed_task",),
        "cancelled | REVOKED | final; a client cancelled it": ("contract/test_status_words.py::test_a_cancelled_task",),
        "expired | REVOKED | final; it did not start before its `expires_in` ran out": (
            "contract/test_status_words.py::test_an_expired_task",
        ),
    },
    "Submit": {
        (
            'POST /api/tasks … {"task_type": "data_processing", "priority": "high", "parameters": {"data": '
            '"test data"}, "delay": 0}'
        ): ("contract/test_submit.py::test_the_example_is_accepted",),
        "task_type | required; a registered type": (
            "contract/test_submit.py::test_task_type_is_required_and_registered",
        ),
        "`GET /api/task-types` lists them with their JSON Schemas and limits": (
            "contract/test_submit.py::test_task_types_are_listed_with_schemas_and_limits",
        ),
        "priority | `high`, `normal` (default), `low`; anything else is refused, never mapped": (
            "contract/test_submit.py::test_priority_is_one_of_three",
        ),
        "parameters | object, default `{}`": (
            "contract/test_submit.py::test_parameters_are_an_object_and_empty_by_default",
        ),
        "validated against the type's schema before anything is stored": (
            "contract/test_submit.py::test_parameters_are_validated_before_anything_is_stored",
        ),
        "delay | seconds >= 0": ("contract/test_submit.py::test_delay_is_no_less_than_nothing",),
        "fractions allowed, default 0": ("contract/test_submit.py::test_delay_takes_fractions_and_is_0_by_default",),
        "not together with `run_at`": ("contract/test_submit.py::test_delay_and_run_at_exclude_each_other",),
        "run_at | RFC 3339 instant": ("contract/test_submit.py::test_run_at_is_an_instant",),
        "in the past means now": ("contract/test_submit.py::test_run_at_in_the_past_means_now",),
        "expires_in | must start within this many seconds after it is due, else `expired`": (
            "contract/test_submit.py::test_a_task_that_does_not_start_in_time_expires",
        ),
        "max_retries | 0-20, default the type's own (3)": (
            "contract/test_submit.py::test_max_retries_counts_the_attempts_after_the_first",
        ),
        "tags | up to 10 strings of up to 64 characters": ("contract/test_submit.py::test_tags_are_few_and_short",),
        "`metadata`: small object echoed back": ("contract/test_submit.py::test_metadata_is_echoed",),
        ('callback | `{"url": …, "events": ["succeeded", "failed", …]}`: a signed webhook (Standard Webhooks)'): (
            "contract/test_submit.py::test_a_callback_is_a_signed_webhook",
        ),
        "Header `Idempotency-Key` (up to 255 characters)": (
            "contract/test_submit.py::test_a_key_has_up_to_255_characters",
        ),
        "same key and same body within 24 h gives the original 202 body and `Idempotency-Replayed: true`": (
            "contract/test_submit.py::test_the_same_key_and_body_give_the_same_answer",
        ),
        "within 24 h": ("integration/test_idempotency.py::test_a_reservation_is_kept_a_day_and_never_longer",),
        "same key with another body 422": ("contract/test_submit.py::test_the_same_key_with_another_body_is_422",),
        "the first one still in flight 409": (
            "unit/test_api_idempotency.py::test_a_key_in_flight_is_409_with_retry_after",
            "integration/test_idempotency.py::test_of_requests_at_the_same_moment_one_runs",
        ),
        (
            '**202** with `Location: /api/tasks/{task_id}` and … {"task_id": "…", "state": "PENDING", '
            '"status": "queued", "task_type": "data_processing", "priority": "high", "queue": "high_priority", '
            '"created_at": "…", "due_at": "…", "message": "…", "links": {"self": "/api/tasks/…", "events": '
            '"…", "cancel": "…"}}'
        ): ("contract/test_submit.py::test_the_answer_promises_word_by_word",),
        "A 202 is a promise: … the task's record can be read.": (
            "contract/test_submit.py::test_an_accepted_task_can_be_read_at_once",
        ),
        "the broker has confirmed the message on disk": ("faults/test_outages.py::test_rabbitmq_is_killed",),
        "What cannot be promised gets another answer within 5 s": (
            "faults/test_outages.py::test_rabbitmq_hangs_for_20_s",
        ),
        ('What cannot be promised gets another answer within 5 s: 503 with `"outcome": "refused"` (it will not run)'): (
            "contract/test_submit.py::test_without_a_broker_a_task_is_refused_within_5_s",
        ),
        'or, if that could not be made sure, `"unknown"`': (
            "unit/test_api.py::test_a_task_whose_refusal_cannot_be_recorded_is_answered_as_unknown",
            "faults/test_outages.py::test_both_are_down_together",
        ),
        "(repeat it with its Idempotency-Key)": (
            "unit/test_api_idempotency.py::test_a_refused_task_runs_under_its_id_when_it_is_repeated",
        ),
        "The 202 body says queued or scheduled however fast a worker was.": (
            "contract/test_submit.py::test_the_answer_says_queued_or_scheduled",
        ),
        (
            "Whether a file exists and what its SQL does is checked when the task runs, so those are 202, then "
            "`failed`."
        ): ("contract/test_submit.py::test_files_and_sql_are_looked_at_when_the_task_runs",),
        "`delay` is at most 30 days.": ("contract/test_submit.py::test_a_delay_is_at_most_30_days",),
        "Huge integers, NUL and lone surrogates: 422.": (
            "contract/test_submit.py::test_values_that_nothing_can_hold_are_422",
        ),
        (
            '`POST /api/tasks/batch` `{"tasks": [up to 1000 submissions]}` … -> 202 `{batch_id, accepted, '
            "rejected, results: [{index, task_id} | {index, error}]}`"
        ): ("contract/test_submit.py::test_a_batch_answers_for_each_submission",),
        "up to 1000 submissions": ("contract/test_submit.py::test_a_batch_has_up_to_1000_submissions",),
        "(body up to 10 MiB)": ("contract/test_submit.py::test_a_batch_has_up_to_10_mebibytes",),
        "`GET /api/batches/{batch_id}` counts by status.": (
            "contract/test_submit.py::test_a_batch_is_counted_by_status",
        ),
        "`POST /api/tasks?dry_run=true` validates, shows queue and limits, stores nothing (200).": (
            "contract/test_submit.py::test_a_dry_run_stores_nothing",
        ),
    },
    "Read": {
        (
            "`GET /api/tasks/{task_id}` -> 200 with all of the above plus `attempt`, `max_attempts`, "
            "`started_at`, `finished_at`, `wait_s`, `run_s`, `worker`, `progress` … `result`, `error` … "
            "`attempts` … `parameters`, `tags`, `metadata`, `retried_from`."
        ): ("contract/test_read.py::test_a_task_reads_with_all_of_its_members",),
        "`progress` `{current,total,message}`": ("contract/test_read.py::test_progress_has_three_members",),
        "`error` `{code,message,retryable}`": ("contract/test_read.py::test_an_error_has_three_members",),
        "`attempts` (each one's start, end, worker, error)": ("contract/test_read.py::test_each_attempt_is_told",),
        "Unknown or malformed id: **404**, never PENDING.": ("contract/test_read.py::test_an_unknown_id_is_404",),
        "`ETag`, `If-None-Match` -> 304.": (
            "contract/test_read.py::test_an_etag_saves_the_body_until_the_task_changes",
        ),
        "`Retry-After` while not final.": (
            "contract/test_read.py::test_retry_after_is_said_while_a_task_is_not_final",
        ),
        "`GET /api/tasks/{task_id}?wait=N` (N <= 30): answers when the task is final": (
            "contract/test_read.py::test_a_reader_can_wait_for_the_end",
        ),
        "or N s have passed.": ("contract/test_read.py::test_a_reader_waits_no_longer_than_it_said",),
        ("`GET /api/tasks?status=&state=&task_type=&priority=&tag=&created_after=&created_before=&limit=&cursor=`"): (
            "contract/test_read.py::test_a_list_is_filtered",
        ),
        "newest first (ties in order of acceptance": (
            "contract/test_read.py::test_a_list_is_newest_first_with_ties_in_order_of_acceptance",
        ),
        "bad query parameters 422": ("contract/test_read.py::test_bad_query_parameters_are_422",),
        '`{"data": […], "has_more": bool, "next_cursor": "…"}`': ("contract/test_read.py::test_a_list_comes_in_pages",),
        "limit 1-200, default 50.": ("contract/test_read.py::test_a_page_has_50_tasks_unless_asked",),
        (
            "`GET /api/tasks/{task_id}/events`: server-sent events, a snapshot first, then each change "
            "(`scheduled`, `queued`, `started`, `progress`, `retrying`, `succeeded`, … ends after the final "
            "one."
        ): ("contract/test_read.py::test_a_task_is_followed_from_a_snapshot_to_its_end",),
        "`Last-Event-ID` resumes": ("contract/test_read.py::test_a_stream_is_resumed",),
        (
            "`GET /api/events`: the same for all tasks. … `scheduled`, `queued`, `started` … `succeeded`, "
            "`failed`, `cancelled`, `expired`"
        ): ("contract/test_read.py::test_all_tasks_are_followed",),
    },
    "Act": {
        "`DELETE /api/tasks/{task_id}`: 200 cancelled before it ran (its code never runs": (
            "contract/test_act.py::test_a_task_that_waits_is_cancelled_and_never_runs",
        ),
        "(its code never runs, also after restarts)": (
            "faults/test_cancelled.py::test_200_cancelled_tasks_do_not_run_after_everything_restarted",
        ),
        "202 running and asked to stop": ("contract/test_act.py::test_a_running_task_is_asked_to_stop",),
        "409 already final": ("contract/test_act.py::test_a_final_task_is_not_cancelled",),
        "404.": ("contract/test_act.py::test_nobody_is_not_cancelled",),
        (
            "`POST /api/tasks/{task_id}/retry` `{parameters?}`: 202, a final task again, as a new one with "
            "`retried_from`"
        ): ("contract/test_act.py::test_a_final_task_is_repeated_as_a_new_one",),
        "409 if not final.": ("contract/test_act.py::test_a_task_that_is_not_final_is_not_repeated",),
        "`POST /api/tasks/{task_id}/run`: a scheduled or retrying one now.": (
            "contract/test_act.py::test_a_scheduled_or_retrying_task_is_run_now",
        ),
        (
            '`POST /api/tasks/bulk` `{"action": "retry"|"cancel", "task_ids": […] … -> `{matched, succeeded: '
            "[…], failed: {id: reason}}`."
        ): ("contract/test_act.py::test_many_are_cancelled_or_repeated_by_their_ids",),
        '"filter": {…}, … `filter` in bulk takes the list\'s parameters.': (
            "contract/test_act.py::test_many_are_found_by_a_filter",
        ),
        '"dry_run": bool}': ("contract/test_act.py::test_a_dry_run_of_many_does_nothing",),
        (
            "`GET /api/queues`: per queue depth, unacknowledged, consumers, oldest task's age, paused "
            "(`unacknowledged` is null without the management API)."
        ): ("contract/test_act.py::test_each_queue_tells_how_full_it_is",),
        (
            "`PUT /api/queues/{name}/pause` and `/resume` … in force when answered; held tasks stay `queued` "
            "and run within 15 s of resume"
        ): ("contract/test_act.py::test_a_paused_queue_holds_its_tasks_at_once_and_runs_them_later",),
        "(survive restarts;": ("integration/test_lifecycle.py::test_a_pause_is_in_force_while_the_worker_restarts",),
        "`POST …/purge` cancels what waits.": ("contract/test_act.py::test_a_purge_cancels_what_waits",),
    },
    "Files": {
        "`POST /api/files` (multipart, field `file`) -> 201 `{filename, size_bytes, sha256, mime_type}`": (
            "contract/test_files.py::test_an_upload_is_described",
        ),
        "`GET /api/files`": ("contract/test_files.py::test_files_are_listed",),
        "`GET /api/files/{filename}` (download)": ("contract/test_files.py::test_a_file_is_downloaded",),
        "`DELETE`.": ("contract/test_files.py::test_a_file_is_deleted",),
        "A name is one path segment and `output` is such a name": (
            "contract/test_files.py::test_a_task_s_output_has_such_a_name",
        ),
        "uploading a name again replaces it": ("contract/test_files.py::test_a_name_uploaded_again_is_replaced",),
        "a thumbnail fits 256 px unless asked otherwise": (
            "contract/test_files.py::test_a_thumbnail_fits_256_pixels_unless_asked",
        ),
        "files of tasks that are not final are kept.": (
            "contract/test_files.py::test_files_of_tasks_that_are_not_final_are_kept",
        ),
        "In a name `..`, separators, NUL and absolute names are refused with 422.": (
            "contract/test_files.py::test_a_name_that_leads_elsewhere_is_refused",
        ),
        "Upload limit 413.": ("contract/test_files.py::test_an_upload_over_the_limit_is_413",),
    },
    "Look after it": {
        "`GET /healthz` (process is up)": (
            "contract/test_look_after_it.py::test_the_process_is_up_whatever_is_missing",
        ),
        ("`GET /readyz` (broker, Redis, and at least one consumer on every queue; 503 names what is missing)"): (
            "contract/test_look_after_it.py::test_ready_means_that_a_task_could_run",
        ),
        "`GET /metrics` (Prometheus)": ("contract/test_look_after_it.py::test_metrics_are_what_prometheus_reads",),
        "`GET /api/workers`": ("contract/test_look_after_it.py::test_workers_are_listed",),
        "`GET /api/stats`": ("contract/test_look_after_it.py::test_the_service_counts_its_tasks",),
        "`GET /openapi.json` (3.1)": ("contract/test_look_after_it.py::test_it_describes_itself_in_openapi_3_1",),
        "`GET /docs` (interactive)": ("contract/test_look_after_it.py::test_the_description_can_be_tried_out",),
        "`GET /` (the console).": ("contract/test_look_after_it.py::test_the_console_is_at_the_root",),
    },
    "Errors": {
        (
            "`application/problem+json` (RFC 9457): `{type, title, status, detail, instance, request_id, "
            "error, errors: [{pointer, detail}]}`; `error` is a stable … snake_case code."
        ): ("contract/test_errors.py::test_a_failure_is_a_problem_document",),
        "Never a traceback, an exception's repr, a host name or a credential.": (
            "contract/test_errors.py::test_a_failure_tells_nothing_of_the_inside",
        ),
        "400 not JSON (NaN, Infinity, a BOM, broken UTF-8 and nesting beyond 100 included)": (
            "contract/test_errors.py::test_what_is_not_json_is_400",
        ),
        "401 / 403 key missing or wrong / scope missing": (
            "contract/test_errors.py::test_a_missing_or_wrong_key_is_401_and_a_missing_scope_403",
        ),
        "404": ("contract/test_errors.py::test_what_is_not_there_is_404",),
        "405": ("contract/test_errors.py::test_another_method_is_405",),
        "409": ("contract/test_errors.py::test_what_contradicts_the_task_s_state_is_409",),
        "413 body over 1 MiB (readable by the client: drained within a bound)": (
            "contract/test_errors.py::test_a_large_body_is_413_and_the_answer_can_be_read",
        ),
        "drained within a bound": ("contract/test_errors.py::test_a_body_that_never_comes_is_not_waited_for",),
        "415 not application/json": ("contract/test_errors.py::test_another_media_type_is_415",),
        "422 does not validate (also a body that is JSON but not an object": (
            "contract/test_errors.py::test_json_that_is_no_object_is_422",
        ),
        "`pointer` names the member, e.g. `/parameters/to`": (
            "contract/test_errors.py::test_a_pointer_names_the_member",
        ),
        "429 over the rate limit, with `Retry-After`": (
            "contract/test_errors.py::test_over_the_rate_is_429_and_says_when_to_come_back",
        ),
        "503 broker or Redis unreachable, with `Retry-After`.": (
            "contract/test_errors.py::test_a_broker_or_redis_that_is_away_is_503",
        ),
    },
    "Who may": {
        "`Authorization: Bearer KEY` (or `X-API-Key`)": (
            "contract/test_who_may.py::test_a_key_is_shown_in_either_header",
        ),
        "keys stored hashed": ("integration/test_access.py::test_nothing_in_the_store_tells_a_key",),
        "scopes `submit`, `read`": ("contract/test_who_may.py::test_a_key_with_its_scopes_does_the_work",),
        "scopes `submit`, `read`, `manage`": ("contract/test_who_may.py::test_each_scope_opens_what_is_its_own",),
        "No key configured: open … no rate limit then.": (
            "contract/test_who_may.py::test_without_keys_the_service_is_open_and_has_no_rate_limit",
        ),
        ("the service's published address (`BIND_ADDRESS`) is loopback, and it refuses to start on any other"): (
            "integration/test_access.py::test_every_way_of_starting_publicly_needs_a_key",
        ),
    },
    "The three task types": {
        "data_processing | `data`: … or `file`": ("contract/test_task_types.py::test_data_or_a_file_and_nothing_else",),
        "`data`: a string … text: characters, words, lines, unique_words, top_words": (
            "contract/test_task_types.py::test_text_is_counted",
        ),
        "an array of numbers … numbers: count, min, max, mean, median, stdev, p95, sum": (
            "contract/test_task_types.py::test_numbers_are_summarised",
        ),
        "an array of objects (rows) or an object … rows/file: `row_count` and a profile of each column": (
            "contract/test_task_types.py::test_rows_and_objects_are_profiled",
        ),
        "or `file`: an uploaded CSV, JSON, NDJSON": ("contract/test_task_types.py::test_uploaded_tables_are_profiled",),
        "or Parquet": ("contract/test_task_types.py::test_an_uploaded_parquet_file_is_profiled",),
        (
            "optional `query`: SQL over the table `data` … with `query`: `columns` (names), `rows`, "
            "`row_count`, `truncated`"
        ): ("contract/test_task_types.py::test_sql_is_answered",),
        (
            "email_sending | `to` (address or list), optional `cc`, `bcc`, `reply_to`, `subject`, `body`, "
            "`html`, `attachments` (uploaded files)"
        ): ("contract/test_task_types.py::test_a_mail_is_sent",),
        "message_id, accepted addresses, refused addresses with SMTP code": (
            "contract/test_task_types.py::test_a_mail_tells_who_was_refused",
        ),
        (
            "file_processing | `filename` of an uploaded file; `operation`: `inspect` (default) … size_bytes, "
            "mime_type, sha256 and what the kind of file offers"
        ): ("contract/test_task_types.py::test_any_file_is_inspected",),
        (
            "`checksum`, `extract_text`, `thumbnail`, `convert`, `compress`, with its own options … `output`: "
            "the file it made"
        ): ("contract/test_task_types.py::test_operations_make_files",),
        (
            "(text: lines, words, encoding; image: width, height, format; PDF: pages; archive: entries; table: "
            "columns, rows)"
        ): ("contract/test_task_types.py::test_each_kind_of_file_offers_its_own",),
        (
            "A task's own `error.code`s are stable too: `file_not_found` … `query_failed`, "
            "`query_not_allowed`, `smtp_refused`, `smtp_unavailable`, `timed_out` … `result_too_large`, "
            "`internal`."
        ): ("contract/test_task_types.py::test_a_failure_has_a_stable_code",),
        "`file_too_large`": ("contract/test_task_types.py::test_a_file_that_is_too_large_has_a_code_of_its_own",),
        "`unsupported_file`": ("contract/test_task_types.py::test_a_file_that_cannot_be_read_has_a_code_of_its_own",),
        "`worker_lost`": ("integration/test_service.py::test_a_task_that_kills_its_worker_is_failed_in_the_end",),
        (
            "`retryable` says whether the service itself would try again (it did, and attempts ran out) or not "
            "(permanent)."
        ): ("contract/test_task_types.py::test_retryable_says_whether_it_was_tried_again",),
    },
}


def named_tests() -> Iterator[tuple[str, str]]:
    """Each test of the table with the clause it stands beside."""
    for clauses in CLAUSES.values():
        for clause, tests in clauses.items():
            for test in tests:
                yield test, clause


def docstrings(module: Path) -> dict[str, str]:
    """What each test of a module says of itself, on one line."""
    return {
        node.name: " ".join((ast.get_docstring(node) or "").split())
        for node in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("test", sorted({test for test, _ in named_tests()}))
def test_every_named_test_exists(test: str) -> None:
    module, _, name = test.partition("::")

    assert name in docstrings(TESTS / module)


def test_every_test_of_the_contract_stands_beside_the_clause_it_quotes() -> None:
    in_table = {(test, clause) for test, clause in named_tests() if test.startswith("contract/")}
    in_suite = {
        (f"contract/{module.name}::{name}", quoted)
        for module in sorted((TESTS / "contract").glob("test_*.py"))
        if module != Path(__file__)
        for name, quoted in docstrings(module).items()
    }

    assert in_table == in_suite
