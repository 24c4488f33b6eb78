#!/usr/bin/env bash
#
# install-hooks.sh - link the hooks of a project into git.
#
# Git does not copy hooks when somebody clones a repository. Keep them
# in a directory named hooks/ and run this script once after cloning.
# Because links are used, a later change to a hook works at once.
#
# Usage: install-hooks.sh [--remove]

set -euo pipefail

# Names that git knows. Another name would never be run.
known=(pre-commit commit-msg pre-push post-checkout post-merge)

is_known() {
  local name
  for name in "${known[@]}"; do
    if [[ $name == "$1" ]]; then
      return 0
    fi
  done
  return 1
}

install_hook() {
  local source=$1
  local target=$2
  if [[ -e $target && ! -L $target ]]; then
    echo "skipped: $target is a file that we did not make" >&2
    return
  fi
  chmod +x "$source"
  ln -sfn "$source" "$target"
  echo "installed $(basename "$target")"
}

remove_hook() {
  local target=$1
  if [[ -L $target ]]; then
    rm "$target"
    echo "removed $(basename "$target")"
  fi
}

main() {
  local top hook_dir
  top=$(git rev-parse --show-toplevel)
  hook_dir=$(git rev-parse --git-path hooks)
  if [[ ! -d $top/hooks ]]; then
    echo "error: this project has no hooks/ directory" >&2
    exit 1
  fi
  mkdir -p "$hook_dir"

  local source name
  for source in "$top"/hooks/*; do
    name=$(basename "$source" .sh)
    if ! is_known "$name"; then
      echo "ignored $name, git has no such hook" >&2
      continue
    fi
    if [[ ${1:-} == --remove ]]; then
      remove_hook "$hook_dir/$name"
    else
      install_hook "$source" "$hook_dir/$name"
    fi
  done
}

main "$@"
