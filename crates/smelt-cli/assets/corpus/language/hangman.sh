#!/usr/bin/env bash
#
# hangman.sh - guess a word letter by letter.
#
# Usage: hangman.sh [WORD_FILE]
#
# The file holds one word on each line. Without a file the script uses a
# short list of its own. You may make six mistakes.

set -euo pipefail

max_mistakes=6
words=(planet window garden bridge pencil rocket silver kitten)

pick_word() {
  if (( $# > 0 )); then
    # Keep lines made of small letters only.
    mapfile -t words < <(grep -E '^[a-z]{3,}$' -- "$1")
  fi
  if (( ${#words[@]} == 0 )); then
    echo "error: there are no words to guess" >&2
    exit 1
  fi
  secret=${words[RANDOM % ${#words[@]}]}
}

# Show the letters that were guessed, and a line in place of the others.
# Inside the brackets, "!" means any character that is not in the set.
masked_word() {
  local known=$1
  local shown=${secret//[!"$known"]/_}
  # Put a space after each character.
  local spaced="" i
  for (( i = 0; i < ${#shown}; i++ )); do
    spaced+="${shown:i:1} "
  done
  echo "${spaced% }"
}

play() {
  # The dot keeps the set of letters from being empty.
  local guessed="." mistakes=0 letter view

  while (( mistakes < max_mistakes )); do
    view=$(masked_word "$guessed")
    if [[ "$view" != *_* ]]; then
      echo "You win! The word is $secret."
      return 0
    fi

    echo "$view    mistakes: $mistakes of $max_mistakes"
    read -r -p "Letter: " letter || return 1
    letter=${letter,,}

    if ! [[ "$letter" =~ ^[a-z]$ ]]; then
      echo "Please type one letter."
    elif [[ "$guessed" == *"$letter"* ]]; then
      echo "You tried '$letter' before."
    else
      guessed+=$letter
      if [[ "$secret" != *"$letter"* ]]; then
        echo "There is no '$letter'."
        mistakes=$(( mistakes + 1 ))
      fi
    fi
  done

  echo "You lose. The word was $secret."
  return 1
}

main() {
  local secret
  pick_word "$@"
  play
}

main "$@"
