#!/usr/bin/env bash
#
# service_check.sh - check that a list of systemd services is running.
#
# For each service the script asks systemd two questions: is it active now,
# and is it enabled to start at boot? It prints a small table and exits with
# status 1 if any service is not active. With --restart it also tries to
# restart each service that is down, which needs root.
#
# Usage: service_check.sh [--restart] SERVICE...
# Example: service_check.sh ssh cron nginx

set -euo pipefail

restart=no

usage() {
  echo "Usage: service_check.sh [--restart] SERVICE..."
}

# systemctl prints the state and also sets the exit status. We only want
# the word, so the failure is ignored with "|| true".
active_state() {
  systemctl is-active "$1" 2>/dev/null || true
}

enabled_state() {
  systemctl is-enabled "$1" 2>/dev/null || true
}

try_restart() {
  local service="$1"
  echo "restarting $service" >&2
  if systemctl restart "$service"; then
    echo "restarted $service" >&2
  else
    echo "error: could not restart $service" >&2
    echo "hint: journalctl -u $service -n 20" >&2
    return 1
  fi
}

main() {
  if [[ "${1:-}" == "--restart" ]]; then
    restart=yes
    shift
  fi
  if (( $# == 0 )); then
    usage >&2
    return 2
  fi
  if ! command -v systemctl >/dev/null; then
    echo "error: systemctl was not found on this machine" >&2
    return 2
  fi

  local service active enabled
  local down=0
  printf '%-20s %-12s %s\n' SERVICE ACTIVE ENABLED
  for service in "$@"; do
    active="$(active_state "$service")"
    enabled="$(enabled_state "$service")"
    printf '%-20s %-12s %s\n' "$service" "${active:-unknown}" "${enabled:-unknown}"
    if [[ "$active" != "active" ]]; then
      if [[ "$restart" == "yes" ]] && try_restart "$service"; then
        continue
      fi
      down=$((down + 1))
    fi
  done

  if (( down > 0 )); then
    echo "$down service(s) are not active" >&2
    return 1
  fi
}

main "$@"
