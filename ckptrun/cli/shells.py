"""How the shells ask for words: click's way, but for two things that it has wrong.

- `--option=val`: zsh and fish take it for one word, and click answers with the value alone. zsh would put that in place of the
  whole word, the option lost; fish would offer nothing. Here the shell keeps the option, and completes what stands behind it. bash
  makes three words of it, and click takes the sign for the value.
- fish: click's function cuts an answer at every comma, so that most descriptions end in their middle.
"""

from __future__ import annotations

from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete, add_completion_class

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a plain described answer
    local type key about
    (( $+commands[%(prog_name)s] )) || return 1
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete %(prog_name)s)}")
    [[ $PREFIX == --*=* ]] && compset -P '*='
    for type key about in $answer; do
        case $type in
            plain) if [[ $about == _ ]]; then plain+=("$key"); else described+=("$key:$about"); fi ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described
    (( $#plain )) && compadd -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l word (commandline -ct | string collect)
    set -l option (string match -r -- '^--[^=]+=' "$word")
    set -l value (string replace -r -- '^--[^=]+=' '' "$word")
    set -l line (commandline -cp | string collect)
    for answer in (env %(complete_var)s=fish_complete COMP_WORDS="$line" COMP_CWORD="$word" %(prog_name)s)
        set -l parts (string split -m 1 , -- $answer)
        switch $parts[1]
            case plain
                echo -- "$option$parts[2]"
            case dir
                string replace -r -- '^' "$option" (__fish_complete_directories "$value")
            case file
                string replace -r -- '^' "$option" (__fish_complete_path "$value")
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """bash, where the sign between an option and its value is no word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what fits, as if `--option=value` had been typed as two words."""
        words = [word for before, word in zip(["", *args], args, strict=False) if word != "=" or not before.startswith("--")]
        return super().get_completions(words, incomplete)


class Zsh(ZshComplete):
    """zsh, where an option keeps its place in front of its value."""

    source_template = _ZSH


class Fish(FishComplete):
    """fish, where an option keeps its place in front of its value, and a description its commas."""

    source_template = _FISH


def register() -> None:
    """Let click answer the shells so."""
    add_completion_class(Bash)
    add_completion_class(Zsh)
    add_completion_class(Fish)
