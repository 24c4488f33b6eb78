#!/usr/bin/env bash
#
# pre-commit.sh - a git hook that looks at the files before a commit.
#
# To use it, copy it to .git/hooks/pre-commit and make it executable.
# Git runs it before each commit and stops when it fails. It checks only
# the files that are about to be committed, so it stays fast.
#
# To skip the hook once: git commit --no-verify

set -euo pipefail

max_bytes=$((1024 * 1024))
failed=no

complain() {
  echo "pre-commit: $*" >&2
  failed=yes
}

# A marker such as <<<<<<< is left over when a merge was not finished.
check_conflict_markers() {
  local file=$1
  if git show ":$file" | grep -aE '^(<{7}|>{7})( |$)' >/dev/null; then
    complain "$file has a conflict marker in it"
  fi
}

check_size() {
  local file=$1
  local size
  size=$(git cat-file -s ":$file")
  if ((size > max_bytes)); then
    complain "$file is too large ($size bytes)"
  fi
}

check_syntax() {
  local file=$1
  case $file in
    *.sh)
      git show ":$file" | bash -n || complain "$file has a syntax error"
      ;;
    *.json)
      if command -v jq >/dev/null; then
        git show ":$file" | jq empty || complain "$file is not valid JSON"
      fi
      ;;
  esac
}

main() {
  # Git knows itself how to find spaces at the end of a line.
  if ! git diff --cached --check; then
    complain "remove the white space at the end of these lines"
  fi

  local file
  # The name ":file" means the version in the index, which is what the
  # commit will hold. The file on disk may already be different.
  while IFS= read -r -d '' file; do
    check_conflict_markers "$file"
    check_size "$file"
    check_syntax "$file"
  done < <(git diff --cached --name-only --diff-filter=ACM -z)

  [[ $failed == no ]]
}

main "$@"
