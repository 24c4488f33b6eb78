#!/usr/bin/env bash
#
# log_helpers.sh - logging functions with levels.
#
# Source this file from another script to get log_debug, log_info, log_warn
# and log_error. Messages go to standard error, so they never mix with the
# real output of your program. Run the file by itself to see a short demo.
#
# Settings, taken from the environment:
#   LOG_LEVEL   debug, info, warn or error   (default: info)
#   LOG_FILE    also append each message to this file

declare -A log_rank=([debug]=0 [info]=1 [warn]=2 [error]=3)

# Write one line: time, level, message.
log_write() {
  local level=$1
  shift
  local wanted=${LOG_LEVEL:-info}
  local threshold=${log_rank[$wanted]:-1}

  # Say nothing when the message is less important than the threshold.
  if (( ${log_rank[$level]} < threshold )); then
    return 0
  fi

  local line
  printf -v line '%(%Y-%m-%d %H:%M:%S)T %-5s %s' -1 "${level^^}" "$*"
  echo "$line" >&2
  if [[ -n "${LOG_FILE:-}" ]]; then
    echo "$line" >> "$LOG_FILE"
  fi
}

log_debug() { log_write debug "$@"; }
log_info()  { log_write info "$@"; }
log_warn()  { log_write warn "$@"; }
log_error() { log_write error "$@"; }

# Log an error and leave with status 1.
log_die() {
  log_error "$@"
  exit 1
}

# Run a command, and log how long it took and how it ended.
log_run() {
  local started=$SECONDS status=0
  log_debug "running: $*"
  "$@" || status=$?
  local took=$(( SECONDS - started ))
  if (( status == 0 )); then
    log_info "done in ${took}s: $1"
  else
    log_warn "failed with status $status after ${took}s: $1"
  fi
  return "$status"
}

demo() {
  set -euo pipefail
  log_debug "you see this only with LOG_LEVEL=debug"
  log_info "the demo starts"
  log_run sleep 1
  log_run false || log_warn "that command was meant to fail"
  log_info "the demo ends"
}

# True only when the file is run, not when it is sourced.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  demo
fi
