#!/bin/bash
# submit.sh SECONDS URL CURL-OPTION…: submits one task after the other, tagged `load`, and prints for each answer its
# code, its Retry-After and its task id, `-` for what it does not have.
seconds=$1 url=$2
shift 2
end=$((SECONDS + seconds))
while ((SECONDS < end)); do
  answer=$(curl -s --max-time 40 -w '\n%header{retry-after}- %{http_code}' -X POST "$url/api/tasks" \
    -H 'Content-Type: application/json' "$@" \
    -d '{"task_type":"data_processing","priority":"low","parameters":{"data":"a b c"},"tags":["load"]}')
  last=${answer##*$'\n'} # "12- 503", or "- 202"
  task_id=$(sed -n 's/.*"task_id": *"\([0-9a-f-]*\)".*/\1/p' <<<"$answer")
  retry_after=${last%% *}
  retry_after=${retry_after%-}
  printf '%s %s %s\n' "${last##* }" "${retry_after:--}" "${task_id:--}"
done
