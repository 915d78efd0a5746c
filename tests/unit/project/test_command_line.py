"""The command line, frozen: commands, arguments and options are equal to the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from hisac_lab.cli.main import app, main
from hisac_lab.cli.params import defaults

# One line per command: arguments in capitals, an optional one in brackets; options by all their names.
COMMANDS = """
ab power --confidence --json --lift --power --spread --users
agents show USER --model --pruned
data check PATH --column --items --positive --users --vectors --write
day --cores
doctor --json
explain KEY
export ids --bundle --out
export items --bundle --out
export states --at --bundle --out
graph
init --like --log --write
items add TABLE --alias --bundle --out --promote --vectors
items changes THEN [NOW] --json
job aws-batch IMAGE REPOSITORY --gpus --revision
job kubernetes IMAGE REPOSITORY --claim --gpus --revision
models --json
models rebuild VERSION --data --into
models show VERSION --json
models verify VERSION --json
params check
params default
params diff
params schema
params set KEY VALUE
params show
promote [MODEL] --force --reason --version
report --against
reproduce [THIS] [THAT] --json
rollback
score USERS --at --bundle --candidates --out --seen --top
serve --bundle --port
sid show ITEM --neighbors
stage NAME --index --model --seed
states fill --at
summary
sweep MODEL
sync
ui --port
verify [STAGE] --repair
"""


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command below this one, written as in the table."""
    children = getattr(command, "commands", None)
    if children is not None:
        for name in children:
            yield from commands(children[name], (*path, name))
        if not getattr(command, "invoke_without_command", False):
            return
    arguments, options = [], []
    for parameter in getattr(command, "params", []):
        if parameter.param_type_name == "argument":
            name = parameter.name.upper()
            arguments.append(name if parameter.required else f"[{name}]")
        else:
            options += [*parameter.opts, *parameter.secondary_opts]
    yield " ".join([*path, *arguments, *sorted(options)])


def test_the_command_line_is_the_table() -> None:
    found = sorted(commands(typer.main.get_command(app)))
    assert found == COMMANDS.strip().splitlines()


def test_every_command_and_every_option_has_a_help_text() -> None:
    waiting = [("hisac-lab", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        assert command.help, name
        waiting += [(f"{name} {child}", below) for child, below in getattr(command, "commands", {}).items()]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--version"], 0), (["explain", "no.such.key"], 1), (["promote", "--nonsense"], 2), (["nonsense"], 2)],
)
def test_the_exit_code_is_as_documented(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(defaults())
    monkeypatch.setattr(sys, "argv", ["hisac-lab", *words])
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **named: None, raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == code
    assert code != 1 or capsys.readouterr().err.count("\n") == 1


def test_a_shell_can_complete_commands() -> None:
    names = {parameter.name for parameter in typer.main.get_command(app).params}
    assert {"install_completion", "show_completion"} <= names
