"""The command line: one thin command per verb, its flags generated from the verb's dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, get_type_hints

import typer

from dataworth import config
from dataworth.errors import DataworthError, RequestError, TooManyRejects
from dataworth.views import as_json, terminal

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Which training examples are worth training on, for this model and this goal.",
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dataworth {version('dataworth')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _without_a_verb(
    context: typer.Context,
    asked: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# Newer Typers carry their own copy of click, so its exceptions are reached through the names Typer exports.
WrongUsage: type[Exception] = typer.BadParameter.__mro__[2]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with the same keys as the flags; flags win.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, without running a model or writing.")]
SHORT = {"out": "-o"}


def _command(verb: str, run: Callable[[config.Request, terminal.Bars], Any]) -> Callable[..., None]:
    """A command whose parameters are the fields of the verb's request."""
    cls = config.VERBS[verb]

    def command(**flags: Any) -> None:
        as_object, file, dry = flags.pop("json"), flags.pop("config"), flags.pop("dry_run")
        show_recipe = flags.pop("show_recipe", False)
        given = config.load_yaml(file) if file else {}
        given.update({k: v for k, v in flags.items() if v is not None and v != []})
        if show_recipe:
            return _show_recipe(given)
        request = config.build(cls, given)
        try:
            with terminal.Bars() as bars:
                result = _dry(request, bars) if dry else run(request, bars)
        except TooManyRejects as error:
            _face(error.result, as_object)
            raise
        _face(result, as_object)

    command.__name__ = verb
    command.__doc__ = inspect.getdoc(cls)
    parameters = _parameters(cls)
    if verb == "plan":
        recipe_flag = Annotated[
            bool, typer.Option("--show-recipe", help="Print the training recipe in force and stop.")
        ]
        parameters.append(
            inspect.Parameter("show_recipe", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=recipe_flag)
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameters(cls: type[config.Request]) -> list[inspect.Parameter]:
    hints, help_of = get_type_hints(cls), config.field_help(cls)
    positional = "subset" if "subset" in hints else "pool"
    out = []
    for field in dataclasses.fields(cls):
        many = hints[field.name] == tuple[str, ...]
        base = next(t for t in (bool, int, float, str) if many or hints[field.name] in (t, t | None) or t is str)
        kind: Any = list[str] | None if many else (base | None)
        if field.name == positional:
            info: Any = typer.Argument(help=help_of[field.name], show_default=False)
        else:
            flag = field.name.replace("_", "-")
            names = [f"--{flag}/--no-{flag}" if base is bool and not many else f"--{flag}"]
            text = help_of[field.name] + (
                "" if many or field.default in (None, False, True) else f" [default: {field.default}]"
            )
            info = typer.Option(
                *names, *([SHORT[field.name]] if field.name in SHORT else []), help=text, show_default=False
            )
        out.append(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
            )
        )
    for name, note, default in (("json", Json, False), ("config", Config, None), ("dry_run", DryRun, False)):
        out.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=note))
    return out


def _show_recipe(given: dict[str, Any]) -> None:
    import yaml

    sys.stdout.write(yaml.safe_dump(config.recipe_shown(given), sort_keys=False))


def _dry(request: config.Request, bars: terminal.Bars) -> Any:
    from dataworth import api

    if isinstance(request, config.TrialRequest):
        return api.plan_proof(request, bars)
    if isinstance(request, config.DiagnoseRequest):
        return api.plan_diagnosis(request, bars)
    values = {
        f.name: getattr(request, f.name) for f in dataclasses.fields(config.PlanRequest) if hasattr(request, f.name)
    }
    if isinstance(request, config.ScoreRequest) and "," in (request.method or ""):
        raise RequestError(f"--dry-run prices one method: expected one of {request.method}; name it alone")
    return api.run_plan(config.PlanRequest(**{**values, "calibrate": False}), bars)


def _face(result: Any, as_object: bool) -> None:
    if as_object:
        sys.stdout.write(as_json.dump(result) + "\n")
    else:
        terminal.show(result)


def _verb(name: str) -> Callable[[config.Request, terminal.Bars], Any]:
    def run(request: config.Request, bars: terminal.Bars) -> Any:
        from dataworth import api

        return getattr(api, f"run_{name}")(request, bars)

    return run


for _name in config.VERBS:
    app.command(_name)(_command(_name, _verb(_name)))


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(help="The run folder to do again.")],
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Run the probes again in an empty cache.")
    ] = False,
    as_object: Json = False,
) -> None:
    """Do a finished run again and compare: the same ids, the same scores."""
    from dataworth import api

    with terminal.Bars() as bars:
        result = api.replay(run, from_scratch=from_scratch, progress=bars)
    _face(result, as_object)
    if not result.identical:
        raise RequestError(f"{run} did not replay: its ids differ; see the two lists in the record")


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="The folder of a finished select, score, prove, worth or diagnose run.")],
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="[FILE.html]",
            help="Write one page that holds everything and asks for nothing; RUN/report.html unless told.",
        ),
    ] = None,
    as_object: Json = False,
) -> None:
    """Show a finished run of select, score, prove, worth or diagnose: findings, rows, costs, the record."""
    from dataworth import api

    _face(api.view(run, html=True if html == "" else html), as_object)


@app.command()
def goal(
    file: Annotated[Path, typer.Argument(help="One file of goal rows.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write; <file's stem>-goal unless told.")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="Which columns play which role, kept in goal.yaml.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Judge, kept in goal.yaml: loss, ppl, module:function or a command.")
    ] = None,
    max_rejected: Annotated[
        float, typer.Option("--max-rejected", help="Exit 3 when a larger share of the rows can't be read.")
    ] = 0.01,
    as_object: Json = False,
) -> None:
    """Split a file of goal rows into steer (40 %), tune (20 %) and judge (40 %), with the goal.yaml that names them."""
    from dataworth import api

    try:
        result = api.run_goal(file, out, config.pairs(tuple(columns or ()), "--map"), judge, max_rejected)
    except TooManyRejects as error:
        _face(error.result, as_object)
        raise
    _face(result, as_object)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo writes its files.")] = Path("dataworth-demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the demo's pool and of every random choice.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int | None, typer.Option("--workers", help="Worker processes; 0 works in this one.")] = None,
    as_object: Json = False,
) -> None:
    """A small real case on SmolLM2 in a few minutes: a pool with known good rows, scored, picked and tried out."""
    from dataworth.demo import run_demo

    with terminal.Bars() as bars:
        result = run_demo(folder, seed=seed, device=device, workers=workers, progress=bars)
    _face(result, as_object)


@app.command()
def cache(
    size: Annotated[bool, typer.Option("--size", help="Print the bytes on disk by kind.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Delete every entry.")] = False,
    as_object: Json = False,
) -> None:
    """Look at the cache, or empty it; runs keep their results."""
    from dataworth import api

    if size == clear:
        raise RequestError("cache: expected exactly one of --size and --clear")
    _face(api.clear_cache() if clear else api.cache_size(), as_object)


_PAGE = re.compile(r"\.html?$", re.IGNORECASE)
_INTERRUPTED = 128 + signal.SIGINT
_STOPPED = {_INTERRUPTED: "interrupted", 128 + signal.SIGTERM: "terminated"}
_PAIRS = ("--map", "--goal-map")


def _spread(words: list[str]) -> list[str]:
    """`--map a=b c=d` as `--map a=b --map c=d`: pairs that follow such a flag belong to it.

    A `--html` that no page's name follows stands for itself.
    """
    out: list[str] = []
    flag = ""
    for n, word in enumerate(words):
        if word == "--html" and not any(map(_PAGE.search, words[n + 1 : n + 2])):
            word = "--html="  # no file follows
        if word in _PAIRS:
            flag = word
        elif flag and words[n - 1] != flag:
            if re.match(r"\w+=", word):
                out.append(flag)
            else:
                flag = ""
        out.append(word)
    return out


def _stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> None:
    """Entry point: one line and an exit code instead of a traceback for anything wrong with the request."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(_spread(sys.argv[1:]), standalone_mode=False)
    except DataworthError as error:
        terminal.note(f"dataworth: {error}")
        sys.exit(error.exit_code)
    except WrongUsage as error:
        terminal.note(f"dataworth: {error.format_message()}; see --help")  # type: ignore[attr-defined]
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except SystemExit as end:
        if end.code not in _STOPPED:
            raise
        code = end.code
    if code in _STOPPED:  # newer Typers return an interrupt's code themselves
        terminal.note(f"dataworth: {_STOPPED[code]}; the same command resumes: dataworth {shlex.join(sys.argv[1:])}")
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
