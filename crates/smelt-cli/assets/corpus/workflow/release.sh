#!/usr/bin/env bash
#
# release.sh - check the repository, tag it and pack the source.
#
# The script makes a release in four careful steps:
#   1. make sure that nothing is left uncommitted
#   2. run the tests
#   3. create an annotated tag from the VERSION file
#   4. write a source archive and its checksum into dist/
# The name dist/ should be listed in .gitignore. The script never
# pushes. Look at the result first and push the tag yourself.
#
# Usage: release.sh [--dry-run]

set -euo pipefail

dry_run=no

die() {
  echo "release: $*" >&2
  exit 1
}

# Print a command and run it, unless this is a dry run.
step() {
  echo "+ $*"
  if [[ $dry_run == no ]]; then
    "$@"
  fi
}

check_clean() {
  local status
  status=$(git status --porcelain)
  if [[ -n $status ]]; then
    echo "$status" >&2
    die "commit or stash these changes first"
  fi
}

check_tag_is_new() {
  if git rev-parse --quiet --verify "refs/tags/$1" >/dev/null; then
    die "the tag $1 exists already, raise the version first"
  fi
}

pack() {
  local tag=$1
  local name=$2
  mkdir -p dist
  git archive --format=tar.gz --prefix="$name/" \
    --output="dist/$name.tar.gz" "$tag"
  (cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
}

main() {
  if [[ ${1:-} == --dry-run ]]; then
    dry_run=yes
  fi
  # Work from the top of the repository, wherever we were started.
  cd "$(git rev-parse --show-toplevel)"

  local version project tag
  [[ -f VERSION ]] || die "there is no VERSION file"
  version=$(<VERSION)
  project=$(basename "$PWD")
  tag=v$version

  check_clean
  check_tag_is_new "$tag"
  step make test
  step git tag -a "$tag" -m "Release $version"
  step pack "$tag" "$project-$version"

  echo "done. To publish it: git push origin $tag"
}

main "$@"
