#!/usr/bin/env bash
#
# user_report.sh - list the people who can log in, with their groups.
#
# System accounts such as daemon or www-data have low user numbers or a
# shell that refuses a login. They are left out. For each remaining user the
# script prints the name, the number, the shell and the groups, and it puts
# a star before users who belong to an administrator group.
#
# Usage: user_report.sh

set -euo pipefail

# On most Linux systems normal users begin at this number.
first_uid=1000
admin_groups="sudo wheel admin"

# A user can log in if the shell is a real one.
can_log_in() {
  case "$1" in
    */nologin | */false | "") return 1 ;;
    *) return 0 ;;
  esac
}

is_admin() {
  local groups=" $1 " group
  for group in $admin_groups; do
    if [[ "$groups" == *" $group "* ]]; then
      return 0
    fi
  done
  return 1
}

main() {
  local name uid shell groups mark
  local total=0 admins=0

  # The fields of a passwd line are separated by colons. We read the unused
  # ones into the variable _.
  while IFS=: read -r name _ uid _ _ _ shell; do
    if (( uid != 0 && uid < first_uid )); then
      continue
    fi
    can_log_in "$shell" || continue
    groups="$(id -nG "$name" 2>/dev/null || echo '?')"
    mark=" "
    if (( uid == 0 )) || is_admin "$groups"; then
      mark="*"
      admins=$((admins + 1))
    fi
    total=$((total + 1))
    printf '%s %-16s %6d  %-16s %s\n' "$mark" "$name" "$uid" "$shell" "$groups"
  done < <(getent passwd)

  echo
  echo "$total users can log in, $admins of them are administrators (*)"
}

main "$@"
