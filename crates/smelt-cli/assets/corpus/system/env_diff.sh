#!/usr/bin/env bash
#
# env_diff.sh - compare the variable names of two environment files.
#
# A project often has a file such as env.example that shows which variables
# are needed, and a private file with the real values. When a variable is
# added to the example, people forget to add it to their own file. This
# script shows the names that are missing. It never prints a value, so the
# output is safe to share.
#
# Usage: env_diff.sh EXAMPLE_FILE REAL_FILE

set -euo pipefail

# Print the sorted names of all variables that are set in a file.
names_in() {
  sed -n 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)=.*/\2/p' "$1" \
    | sort -u
}

main() {
  if (( $# != 2 )); then
    echo "Usage: env_diff.sh EXAMPLE_FILE REAL_FILE" >&2
    return 2
  fi

  local file missing extra
  for file in "$@"; do
    if [[ ! -r "$file" ]]; then
      echo "error: cannot read $file" >&2
      return 2
    fi
  done

  # comm needs sorted input. -23 keeps lines that are only in the first
  # list, and -13 keeps lines that are only in the second.
  missing="$(comm -23 <(names_in "$1") <(names_in "$2"))"
  extra="$(comm -13 <(names_in "$1") <(names_in "$2"))"

  if [[ -n "$extra" ]]; then
    echo "only in $2:"
    sed 's/^/  /' <<<"$extra"
  fi
  if [[ -n "$missing" ]]; then
    echo "missing in $2:"
    sed 's/^/  /' <<<"$missing"
    return 1
  fi
  echo "no variable is missing"
}

main "$@"
