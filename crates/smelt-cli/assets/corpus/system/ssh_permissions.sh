#!/usr/bin/env bash
#
# ssh_permissions.sh - check the modes of the files in ~/.ssh.
#
# The ssh program refuses a private key that other users can read, and the
# ssh server ignores an authorized_keys file that others can write. This
# script shows each wrong mode. With --fix it also repairs them.
#
# Usage: ssh_permissions.sh [--fix]

set -euo pipefail

fix=no
wrong=0

# Compare the mode of a path with the wanted one.
check_mode() {
  local path="$1" wanted="$2" actual
  actual="$(stat -c %a "$path")"
  if [[ "$actual" == "$wanted" ]]; then
    return 0
  fi
  wrong=$((wrong + 1))
  echo "$path has mode $actual, should be $wanted"
  if [[ "$fix" == "yes" ]]; then
    chmod "$wanted" "$path"
    echo "  fixed"
  fi
}

# A private key starts with a line that says so.
is_private_key() {
  head -n 1 "$1" 2>/dev/null | grep -q 'PRIVATE KEY'
}

main() {
  case "${1:-}" in
    "") ;;
    --fix) fix=yes ;;
    *) echo "Usage: ssh_permissions.sh [--fix]" >&2; return 2 ;;
  esac

  local dir="$HOME/.ssh" file
  if [[ ! -d "$dir" ]]; then
    echo "there is no $dir, nothing to check"
    return 0
  fi

  check_mode "$dir" 700
  for file in "$dir"/*; do
    [[ -f "$file" ]] || continue
    if is_private_key "$file"; then
      check_mode "$file" 600
    elif [[ "$file" == */authorized_keys || "$file" == */config ]]; then
      check_mode "$file" 600
    fi
  done

  if (( wrong == 0 )); then
    echo "all modes are correct"
  elif [[ "$fix" == "no" ]]; then
    echo "$wrong wrong mode(s), run again with --fix" >&2
    return 1
  fi
}

main "$@"
