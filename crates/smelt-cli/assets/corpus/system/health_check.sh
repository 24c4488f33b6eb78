#!/usr/bin/env bash
#
# health_check.sh - ask a list of web addresses if they are healthy.
#
# The list is read from a file or from standard input. Each line holds an
# address and, if wanted, the status code that is expected. The usual code
# is 200. Lines that start with a hash sign are comments.
#
#   https://example.com/health
#   https://example.org/old-page 301
#
# Usage: health_check.sh [FILE]
# Exit status: 0 if all are healthy, 1 if at least one is not.

set -euo pipefail

time_limit="${TIME_LIMIT:-10}"

# Print "CODE SECONDS" for one address. Curl prints 000 as the code when it
# could not connect at all.
probe() {
  curl -s -o /dev/null --max-time "$time_limit" \
    -w '%{http_code} %{time_total}\n' "$1" || true
}

check_one() {
  local url="$1" expected="$2"
  local code seconds
  read -r code seconds < <(probe "$url")

  if [[ "$code" == "$expected" ]]; then
    printf 'ok    %s  %ss  %s\n' "$code" "$seconds" "$url"
    return 0
  fi
  if [[ "$code" == "000" ]]; then
    printf 'DOWN  %s  no answer in %ss  %s\n' "$code" "$time_limit" "$url"
  else
    printf 'BAD   %s  expected %s  %s\n' "$code" "$expected" "$url"
  fi
  return 1
}

main() {
  local file="${1:-/dev/stdin}"
  local url expected total=0 bad=0

  if ! command -v curl >/dev/null; then
    echo "error: curl is not installed" >&2
    return 2
  fi

  while read -r url expected; do
    [[ -n "$url" && "$url" != \#* ]] || continue
    total=$((total + 1))
    check_one "$url" "${expected:-200}" || bad=$((bad + 1))
  done <"$file"

  echo "$((total - bad)) of $total healthy"
  (( bad == 0 ))
}

main "$@"
