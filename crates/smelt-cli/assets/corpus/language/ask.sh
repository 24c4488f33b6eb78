#!/usr/bin/env bash
#
# ask.sh - functions that ask questions and check the answers.
#
# The prompts go to standard error and the answers to standard output, so a
# caller can write: name=$(ask_text "Your name?" "nobody"). Run the file to
# see a short dialogue.
#
# Usage: ask.sh

set -euo pipefail

# ask_text QUESTION [DEFAULT] - an empty answer means the default.
ask_text() {
  local question=$1 default=${2:-} answer
  while true; do
    printf '%s%s ' "$question" "${default:+ [$default]}" >&2
    IFS= read -r answer || return 1
    answer=${answer:-$default}
    if [[ -n "$answer" ]]; then
      printf '%s\n' "$answer"
      return 0
    fi
    echo "Please type something." >&2
  done
}

# ask_yes QUESTION - the return code is the answer. Enter means no.
ask_yes() {
  local answer
  while true; do
    printf '%s [y/N] ' "$1" >&2
    read -r answer || return 1
    case ${answer,,} in
      y|yes) return 0 ;;
      n|no|"") return 1 ;;
      *) echo "Please answer yes or no." >&2 ;;
    esac
  done
}

# ask_number QUESTION LOW HIGH
ask_number() {
  local question=$1 low=$2 high=$3 answer
  while true; do
    printf '%s (%d to %d) ' "$question" "$low" "$high" >&2
    read -r answer || return 1
    # The 10# keeps a number such as 08 from being read as octal.
    if [[ "$answer" =~ ^[0-9]{1,9}$ ]] \
      && (( 10#$answer >= low && 10#$answer <= high )); then
      echo $(( 10#$answer ))
      return 0
    fi
    echo "That is not a number in the range." >&2
  done
}

# ask_secret QUESTION - the letters are not shown while you type.
ask_secret() {
  local answer
  printf '%s ' "$1" >&2
  IFS= read -r -s answer || return 1
  echo >&2
  printf '%s\n' "$answer"
}

main() {
  local name age secret
  name=$(ask_text "What is your name?" "nobody")
  age=$(ask_number "How old are you?" 1 120)
  echo "Hello $name, you will be $(( age + 1 )) next year."

  if ask_yes "Shall I count the letters of a secret word?"; then
    secret=$(ask_secret "Type the word:")
    echo "The word has ${#secret} letters."
  else
    echo "Then we stop here."
  fi
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  main "$@"
fi
