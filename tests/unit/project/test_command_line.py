"""The command line, frozen: commands, arguments and options are equal to the table."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import typer

from hisac_lab.cli.main import app, main
from hisac_lab.cli.params import defaults

ROOT = Path(__file__).parents[3]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
BLOCK = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
CALL = re.compile(r"hisac-lab (?=[a-z])[^`]*")

# One line per command: arguments in capitals, an optional one in brackets; options by all their names.
COMMANDS = """
ab power --confidence --json --lift --power --spread --users
agents show USER --model --pruned
data check PATH --column --drop --items --positive --users --vectors --write
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
params set KEY VALUE [MORE]
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


def calls(text: str) -> Iterator[list[str]]:
    """Words behind `hisac-lab` of every call in a page, up to a comment, a pipe or a redirection."""
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ")
    lines = [line for line in blocks.splitlines() if line.lstrip().startswith("$ ")]
    inline = [code.replace("\n", " ") for code in INLINE.findall(BLOCK.sub("", text))]
    for code in (*lines, *inline):
        for call in CALL.findall(code):
            yield list(takewhile(lambda word: word not in ("|", ">", "&&"), shlex.split(call, comments=True)[1:]))


def parse(words: list[str]) -> str:
    """The command that the words call, parsed as when it is called; nothing is run.

    Raises:
        Exception: There is no such command or option, or an argument is missing.
    """
    command, context, names = typer.main.get_command(app), None, list[str]()
    while (children := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        context = typer.Context(command, info_name=command.name, parent=context)
        names.append(words[0])
        command, words = children[words[0]], words[1:]
    if not children or words:
        command.make_context(names[-1], list(words), parent=context)
    return " ".join(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_call_in_the_documentation_is_one_of_the_command_line(page: Path) -> None:
    for words in calls(page.read_text()):
        parse(words)


def test_every_command_is_called_in_the_documentation() -> None:
    called = {parse(words) for page in PAGES for words in calls(page.read_text())}
    names = {re.sub(r" (\[?[A-Z]|--).*", "", line) for line in COMMANDS.strip().splitlines()}
    assert names - called == set()


@pytest.mark.parametrize(
    "text", ["`hisac-lab promot`", "`hisac-lab promote --forse`", "`hisac-lab params set train.epochs`"]
)
def test_a_call_that_is_written_wrong_is_found(text: str) -> None:
    (words,) = calls(text)
    with pytest.raises(Exception, match=r"promot|--forse|value"):
        parse(words)
