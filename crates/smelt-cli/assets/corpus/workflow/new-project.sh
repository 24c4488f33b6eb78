#!/usr/bin/env bash
#
# new-project.sh - create the files of a small new project.
#
# The script makes a directory with a README, a Makefile, a first
# script and a first test, and turns it into a git repository. It
# refuses to touch a directory that exists already.
#
# Usage: new-project.sh NAME ["short description"]
# Example: new-project.sh word-count "Count words in text files"

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

write_readme() {
  cat >README.md <<EOF
# $1

$2

## Usage

    ./$1.sh --help

## Tests

    make test
EOF
}

write_script() {
  # The quotes around 'EOF' keep the dollar signs as they are.
  cat >"$1.sh" <<'EOF'
#!/usr/bin/env bash
set -euo pipefail

main() {
  echo "hello from $(basename "$0")"
}

main "$@"
EOF
  chmod +x "$1.sh"
}

write_test() {
  mkdir tests
  cat >tests/test_hello.sh <<EOF
#!/usr/bin/env bash
set -euo pipefail
./$1.sh | grep -q hello
EOF
}

# A recipe in a Makefile must start with a tab, so printf writes it.
write_makefile() {
  printf '.PHONY: test\n\ntest:\n\tbash tests/test_hello.sh\n' >Makefile
}

main() {
  if (($# < 1)); then
    echo 'usage: new-project.sh NAME ["short description"]' >&2
    exit 2
  fi
  local name=$1
  local description=${2:-A small project.}

  [[ $name =~ ^[a-z][a-z0-9-]*$ ]] ||
    die "use only small letters, digits and dashes in the name"
  [[ ! -e $name ]] || die "$name exists already"

  mkdir "$name"
  cd "$name"
  write_readme "$name" "$description"
  write_script "$name"
  write_test "$name"
  write_makefile
  printf '%s\n' '*.log' 'dist/' >.gitignore
  git init --quiet

  echo "created $name with these files:"
  find . -type f -not -path './.git/*' | sort
}

main "$@"
