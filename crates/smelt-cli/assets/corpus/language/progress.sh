#!/usr/bin/env bash
#
# progress.sh - a progress bar and a spinner for slow commands.
#
# Source this file to use progress_bar and with_spinner. Both write to
# standard error, and both move back to the start of the line with "\r", so
# that each new picture covers the old one.
#
# Usage as a program: progress.sh COMMAND [ARGUMENT]...
# Example: progress.sh sleep 3

set -euo pipefail

# progress_bar DONE TOTAL [WIDTH]
progress_bar() {
  local done_count=$1 total=$2 width=${3:-40}
  local filled=$(( done_count * width / total ))
  local percent=$(( done_count * 100 / total ))
  local full empty

  # Make strings of spaces, and then change the spaces.
  printf -v full '%*s' "$filled" ""
  printf -v empty '%*s' $(( width - filled )) ""
  printf '\r[%s%s] %3d%%' "${full// /#}" "${empty// /.}" "$percent" >&2
  if (( done_count == total )); then
    echo >&2
  fi
}

# with_spinner COMMAND... - show that something happens, return its status.
with_spinner() {
  local frames='|/-\' i=0 status=0 pid
  "$@" &
  pid=$!

  # "kill -0" sends nothing. It only asks if the process is alive.
  while kill -0 "$pid" 2> /dev/null; do
    printf '\r%s working' "${frames:i++ % 4:1}" >&2
    sleep 0.1
  done

  wait "$pid" || status=$?
  if (( status == 0 )); then
    printf '\rdone     \n' >&2
  else
    printf '\rfailed with status %d\n' "$status" >&2
  fi
  return "$status"
}

demo() {
  local step
  for step in {1..20}; do
    progress_bar "$step" 20
    sleep 0.05
  done
  with_spinner sleep 1
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  if (( $# == 0 )); then
    demo
  else
    with_spinner "$@"
  fi
fi
