#!/bin/bash
# submit.sh SECONDS URL CURL-OPTION…: submits one task after the other and prints each answer's code and task id.
seconds=$1 url=$2
shift 2
end=$((SECONDS + seconds))
while ((SECONDS < end)); do
  # The body ends with a line break of its own.
  answer=$(curl -sk --max-time 40 -w ' %{http_code}' -X POST "$url/api/tasks" -H 'Content-Type: application/json' "$@" \
    -d '{"task_type":"data_processing","priority":"low","parameters":{"data":"a b c"}}')
  task_id=$(sed -n 's/.*"task_id": *"\([0-9a-f-]*\)".*/\1/p' <<<"$answer")
  printf '%s %s\n' "${answer##* }" "${task_id:--}"
done
