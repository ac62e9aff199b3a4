"""`ivjax completion`: a script for the shell, made of what the parser takes."""

import argparse
import functools
import shlex
from collections.abc import Iterator

from ivjax.cli.common import add_command

# The words come with the script, rather than from a start of `ivjax` at each TAB, as argcomplete does it.
_BASH = """\
_ivjax_words() {  # what may follow a command, or an option of it; fails for what is neither
    case "$1" in
%s
        *) return 1 ;;
    esac
}

_ivjax() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} at="" i each found=""
    for ((i = 1; i < COMP_CWORD; i++)); do
        each=${COMP_WORDS[i]}
        [[ $each != -* ]] && _ivjax_words "${at:+$at }$each" > /dev/null && at=${at:+$at }$each
    done
    if [[ $before != -* ]] || ! found=$(_ivjax_words "$at $before"); then
        for each in $(_ivjax_words "$at"); do
            # Options only once a dash is typed: else they would hide the names of files.
            [[ $word == -* || $each != -* ]] && found="$found $each"
        done
    fi
    COMPREPLY=($(compgen -W "$found" -- "$word"))
}

complete -o default -F _ivjax ivjax
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -U compinit && compinit }
autoload -U +X bashcompinit && bashcompinit

"""


def add(commands: argparse._SubParsersAction, whole: argparse.ArgumentParser) -> None:
    """Adds the command; `whole` is the parser of all commands."""
    about = (
        "Print a script with which a shell completes commands, options, their choices and shipped configs. "
        'To have it always, put eval "$(ivjax completion bash)" into ~/.bashrc, or that of zsh into ~/.zshrc.'
    )
    example = "ivjax completion bash > ivjax.bash && source ./ivjax.bash"
    parser = add_command(commands, "completion", about, example)
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that reads the script")
    parser.set_defaults(run=functools.partial(_completion, whole=whole))


def _completion(options: argparse.Namespace, whole: argparse.ArgumentParser) -> int:
    cases = (
        f"        {shlex.quote(at)}) echo {shlex.quote(' '.join(words))} ;;" for at, words in _table(whole)
    )
    script = _BASH % "\n".join(cases)
    print(_ZSH + script if options.shell == "zsh" else script, end="")
    return 0


def _table(parser: argparse.ArgumentParser, at: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yields each command, and each option of it that has choices, with the words that may follow."""
    words: list[str] = []
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if flag.startswith("--")]
        choices = [str(choice) for choice in action.choices or ()]
        if action.dest == "config":
            from ivjax.experiment.files import shipped_configs

            choices = list(shipped_configs())
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _table(below, f"{at} {name}".strip())
        if flags and choices:
            yield from ((f"{at} {flag}".strip(), choices) for flag in flags)
        words += flags or choices
    yield at, words
