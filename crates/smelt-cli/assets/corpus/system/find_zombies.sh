#!/usr/bin/env bash
#
# find_zombies.sh - list zombie processes together with their parents.
#
# A zombie is a process that has ended, but whose parent has not yet asked
# for its exit status. It uses no memory and no CPU time, only a place in
# the process table. It cannot be killed, because it is already dead. The
# thing to fix is the parent, so the parent is shown beside each zombie.
#
# Usage: find_zombies.sh
# Exit status: 0 if there are none, 1 if at least one was found.

set -euo pipefail

# Print "PID PARENT NAME" for every process in state Z.
zombies() {
  ps -eo stat=,pid=,ppid=,comm= | awk '$1 ~ /^Z/ { print $2, $3, $4 }'
}

# Print the program name of a process. The parent may end between the two
# calls of ps, so a missing process is not an error.
parent_name() {
  ps -o comm= -p "$1" 2>/dev/null || echo "gone"
}

main() {
  local pid parent name
  local count=0
  while read -r pid parent name; do
    count=$((count + 1))
    echo "zombie $pid ($name), parent $parent ($(parent_name "$parent"))"
  done < <(zombies)

  if (( count == 0 )); then
    echo "no zombie processes, all is well"
    return 0
  fi
  echo "$count zombie process(es) found" >&2
  return 1
}

main "$@"
