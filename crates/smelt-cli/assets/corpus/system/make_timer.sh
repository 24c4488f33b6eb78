#!/usr/bin/env bash
#
# make_timer.sh - write a systemd service and timer for a regular job.
#
# The two files are written to a directory of your choice, so that you can
# read them before you install them. The script prints the commands for the
# installation at the end, but does not run them.
#
# Usage: make_timer.sh NAME SCHEDULE COMMAND [DIRECTORY]
# Example: make_timer.sh nightly-backup '*-*-* 02:30:00' /usr/local/bin/backup.sh

set -euo pipefail

write_service() {
  local name="$1" command="$2"
  cat <<UNIT
[Unit]
Description=Job $name

[Service]
Type=oneshot
ExecStart=$command
# Be kind to other programs on the machine.
Nice=10
IOSchedulingClass=idle
UNIT
}

# Persistent means: if the machine was off at the planned time, run the job
# soon after the next boot.
write_timer() {
  local name="$1" schedule="$2"
  cat <<UNIT
[Unit]
Description=Timer for $name

[Timer]
OnCalendar=$schedule
Persistent=true
RandomizedDelaySec=60

[Install]
WantedBy=timers.target
UNIT
}

main() {
  if (( $# < 3 || $# > 4 )); then
    echo "Usage: make_timer.sh NAME SCHEDULE COMMAND [DIRECTORY]" >&2
    return 2
  fi
  local name="$1" schedule="$2" command="$3" dir="${4:-.}"

  if ! [[ "$name" =~ ^[a-z0-9-]+$ ]]; then
    echo "error: use only small letters, digits and dashes in NAME" >&2
    return 2
  fi
  if [[ "$command" != /* ]]; then
    echo "error: COMMAND must start with a full path" >&2
    return 2
  fi

  mkdir -p "$dir"
  write_service "$name" "$command" >"$dir/$name.service"
  write_timer "$name" "$schedule" >"$dir/$name.timer"
  echo "wrote $dir/$name.service and $dir/$name.timer"
  echo
  echo "To install them, run as root:"
  echo "  cp $dir/$name.service $dir/$name.timer /etc/systemd/system/"
  echo "  systemctl daemon-reload"
  echo "  systemctl enable --now $name.timer"
}

main "$@"
