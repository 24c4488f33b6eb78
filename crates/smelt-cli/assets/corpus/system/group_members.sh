#!/usr/bin/env bash
#
# group_members.sh - print all members of a group, one per line.
#
# The group file lists only the users who joined the group as a second
# group. Users who have it as their first group are found in the passwd
# database. This script looks at both, so no member is forgotten.
#
# Usage: group_members.sh GROUP
# Example: group_members.sh docker

set -euo pipefail

# Members that are written in the group entry: the fourth field.
listed_members() {
  getent group "$1" | cut -d: -f4 | tr ',' '\n'
}

# Users whose first group has this number.
primary_members() {
  getent passwd | awk -F: -v gid="$1" '$4 == gid { print $1 }'
}

main() {
  if (( $# != 1 )); then
    echo "Usage: group_members.sh GROUP" >&2
    return 2
  fi

  local group="$1" entry gid
  if ! entry="$(getent group "$group")"; then
    echo "error: there is no group named $group" >&2
    return 1
  fi
  gid="$(cut -d: -f3 <<<"$entry")"

  # sort -u joins both lists and removes names that occur twice. The awk
  # call drops the empty line of a group without listed members.
  { listed_members "$group"; primary_members "$gid"; } | awk 'NF' | sort -u
}

main "$@"
