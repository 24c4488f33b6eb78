#!/usr/bin/env bash
#
# deploy_config.sh - install a new configuration file and undo it on error.
#
# The old file is saved first. Then the new file takes its place in one step
# and a test command is run. If the test fails, the old file is put back, so
# the service never stays with a broken configuration.
#
# Usage: deploy_config.sh NEW_FILE TARGET TEST_COMMAND [ARG...]
# Example: deploy_config.sh nginx.conf /etc/nginx/nginx.conf nginx -t

set -euo pipefail

die() {
  echo "deploy_config: $*" >&2
  exit 1
}

# Copy to a name in the same directory, then rename. A rename inside one
# file system is atomic: readers see the old file or the new one, never a
# half of each.
install_file() {
  local source="$1" target="$2"
  cp "$source" "$target.new"
  if [[ -e "$target" ]]; then
    chmod --reference="$target" "$target.new"
  fi
  mv "$target.new" "$target"
}

# Put the saved file back, or remove the target if there was none before.
roll_back() {
  local target="$1" saved="$2"
  if [[ -n "$saved" ]]; then
    mv "$saved" "$target"
  else
    rm -f "$target"
  fi
}

main() {
  (( $# >= 3 )) || die "usage: deploy_config.sh NEW_FILE TARGET TEST_COMMAND [ARG...]"
  local new="$1" target="$2" saved=""
  shift 2
  [[ -s "$new" ]] || die "$new is missing or empty"

  if [[ -e "$target" ]]; then
    if cmp -s "$new" "$target"; then
      echo "$target is already up to date"
      return 0
    fi
    saved="$target.$(date +%Y%m%d-%H%M%S).bak"
    cp -p "$target" "$saved"
    # Show what will change. diff returns 1 when files differ.
    diff -u "$target" "$new" || true
  fi

  install_file "$new" "$target"
  if "$@"; then
    echo "installed $target"
  else
    roll_back "$target" "$saved"
    die "the test failed, the old file is back in place"
  fi
}

main "$@"
