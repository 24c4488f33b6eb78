#!/usr/bin/env bash
#
# log-summary.sh - sum up a web server access log in a few lines.
#
# The script expects the common log format, in which the client address is
# the first field, the path is the seventh and the status is the ninth:
#
#   192.0.2.7 - - [01/Mar/2024:10:00:00 +0000] "GET /a HTTP/1.1" 200 512
#
# It prints the number of requests, the count for each status code, the
# busiest clients, the most wanted paths and the number of bytes sent.
#
# Usage:
#   log-summary.sh access.log
#   zcat access.log.1.gz | log-summary.sh

set -euo pipefail

top=5
copy=""

heading() {
  echo
  echo "$1"
  echo "$1" | sed 's/./-/g'
}

# Count equal lines and show the most frequent ones first.
top_lines() {
  sort | uniq -c | sort -k 1,1nr -k 2 | sed -n "1,${top}p"
}

summarize() {
  local log="$1"

  echo "requests: $(wc -l <"$log")"
  awk '$10 ~ /^[0-9]+$/ { sum += $10 }
       END { printf "megabytes sent: %.2f\n", sum / 1000000 }' "$log"

  heading "status codes"
  awk '{ print $9 }' "$log" | sort | uniq -c

  heading "busiest clients"
  awk '{ print $1 }' "$log" | top_lines

  # Drop the query string, so that /search?q=a and /search?q=b count as one.
  heading "most wanted paths"
  awk '{ sub(/\?.*/, "", $7); print $7 }' "$log" | top_lines

  heading "paths not found"
  awk '$9 == 404 { print $7 }' "$log" | top_lines
}

main() {
  local log="${1:--}"

  if [[ "$log" == "-" ]]; then
    # The log is read more than once, so keep standard input in a file.
    copy="$(mktemp)"
    trap 'rm -f "$copy"' EXIT
    cat >"$copy"
    summarize "$copy"
  elif [[ -r "$log" ]]; then
    summarize "$log"
  else
    echo "error: cannot read $log" >&2
    exit 1
  fi
}

main "$@"
