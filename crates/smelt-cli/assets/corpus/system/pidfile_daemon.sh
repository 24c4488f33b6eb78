#!/usr/bin/env bash
#
# pidfile_daemon.sh - start, stop and query a background job by pid file.
#
# A pid file holds the process number of a running program. With it we can
# ask if the program is still alive and send it a signal. The file may be
# stale: the program has died, but the file is still there. So we never
# trust the file alone, we check that the process exists with kill -0.
#
# Usage: pidfile_daemon.sh start PIDFILE COMMAND [ARG...]
#        pidfile_daemon.sh stop PIDFILE
#        pidfile_daemon.sh status PIDFILE

set -euo pipefail

usage() {
  sed -n '10,12s/^# \{0,1\}//p' "$0"
}

# Print the pid if the file names a living process, else return 1.
running_pid() {
  local file="$1" pid
  [[ -r "$file" ]] || return 1
  read -r pid <"$file" || return 1
  [[ "$pid" =~ ^[0-9]+$ ]] || return 1
  kill -0 "$pid" 2>/dev/null || return 1
  echo "$pid"
}

start_job() {
  local file="$1" pid
  shift
  if pid="$(running_pid "$file")"; then
    echo "already running with pid $pid"
    return 0
  fi
  # nohup lets the job survive the end of this terminal session.
  nohup "$@" >"$file.log" 2>&1 </dev/null &
  echo "$!" >"$file"
  echo "started with pid $!"
}

stop_job() {
  local file="$1" pid i
  if ! pid="$(running_pid "$file")"; then
    echo "not running"
    rm -f "$file"
    return 0
  fi
  kill -TERM "$pid"
  # Give the program ten seconds to finish its work.
  for (( i = 0; i < 10; i++ )); do
    if ! kill -0 "$pid" 2>/dev/null; then
      rm -f "$file"
      echo "stopped"
      return 0
    fi
    sleep 1
  done
  echo "error: pid $pid did not stop after 10 seconds" >&2
  return 1
}

show_status() {
  local pid
  if pid="$(running_pid "$1")"; then
    echo "running with pid $pid"
  else
    echo "not running"
    return 3
  fi
}

main() {
  local action="${1:-}" file="${2:-}"
  if [[ -z "$file" ]]; then
    usage >&2
    return 2
  fi
  shift 2
  case "$action" in
    start)
      (( $# > 0 )) || { echo "error: no command given" >&2; return 2; }
      start_job "$file" "$@"
      ;;
    stop) stop_job "$file" ;;
    status) show_status "$file" ;;
    *) usage >&2; return 2 ;;
  esac
}

main "$@"
