"""Functions of the shells that complete a config, a run folder, a file: what `sngd completion` adds."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CONFIG", "FILE", "FOLDER", "RUN", "ending", "functions"]

FILE = {
    "bash": "_shtab_compgen_files",
    "zsh": "_files",
    "fish": "(__fish_complete_path (commandline -ct))",
}
FOLDER = {
    "bash": "_shtab_compgen_dirs",
    "zsh": "_files -/",
    "fish": "(__fish_complete_directories (commandline -ct))",
}
CONFIG = {"bash": "_sngd_configs_file", "zsh": "_sngd_configs", "fish": "(_sngd_configs)"}
RUN = {"bash": "_sngd_runs_dir", "zsh": "_sngd_runs", "fish": "(_sngd_runs)"}

_BASH = """_sngd_configs_file() {
  compgen -W "@PROBLEMS@" -- "$1"
  compgen -f -X '!*.py' -- "$1"
  compgen -f -X '!*.json' -- "$1"
  compgen -d -- "$1"
}

_sngd_runs_dir() {
  local found
  for found in "$1"*/config.json "$1"*/*/config.json; do
    [ -e "$found" ] && echo "${found%/config.json}"
  done
}
"""
# bash ends words at colons, so that problems:heat are three: they are joined before, and what stands before
# the last colon is taken off the answers.
_BASH_END = """
_sngd() {
  local -a whole=() answers=()
  local count=${COMP_CWORD} number word glued=0
  for ((number = 0; number <= count; number++)); do
    word="${COMP_WORDS[number]}"
    if ((number > 0)) && { [ "$word" = : ] || ((glued)); }; then
      whole[${#whole[@]}-1]+="$word"
    else
      whole+=("$word")
    fi
    [ "$word" = : ] && glued=1 || glued=0
  done
  local -a COMP_WORDS=("${whole[@]}")
  local COMP_CWORD=$((${#whole[@]} - 1))
  local last="${whole[COMP_CWORD]}"
  _shtab_sngd
  if [[ "$last" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${last%:*}:"}")
  fi
}
complete -o bashdefault -F _sngd sngd
"""
_ZSH = """_sngd_configs() {
  local -a problems=(@PROBLEMS@)
  compadd -- $problems
  _files -g '*.(py|json)'
}

_sngd_runs() {
  local -a runs=(*/config.json(N:h) */*/config.json(N:h))
  (( $#runs )) && compadd -f -- $runs || _files -/
}
"""
_FISH = """function _sngd_configs
  printf '%s\\\\n' @PROBLEMS@
  for candidate in (__fish_complete_path (commandline -ct))
    if string match -qr '(\\\\.py|\\\\.json|/)$' -- (string split -m1 \\\\t -- $candidate)[1]
      printf '%s\\\\n' $candidate
    end
  end
end

function _sngd_runs
  for found in */config.json */*/config.json
    string replace '/config.json' '' -- $found
  end
end
"""


def functions(shell: str, problems: Sequence[str]) -> str:
    """What CONFIG and RUN name in a shell.

    Args:
        shell: bash, zsh or fish.
        problems: names of the library.
    """
    colon = "\\:" if shell == "zsh" else ":"
    names = " ".join(f"problems{colon}{name}" for name in problems)
    text = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH.replace("\\\\", "\\")}[shell]
    return text.replace("@PROBLEMS@", names)


def ending(shell: str) -> str:
    """What ends the script of a shell."""
    return _BASH_END if shell == "bash" else ""
