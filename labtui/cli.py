"""The command line: a thin root that loads each command at its use and turns every error into one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from labtui import output
from labtui.options import VIA_HELP, Target
from labtui_artifacts.errors import UsageError

COMMANDS: dict[str, str] = {
    "demo": "A small steering sweep on the bundled model.",
    "kernel": "Start, list and stop kernels.",
    "run": "Run an experiment from a spec file.",
    "spec": "Print a commented template of a kind of spec.",
    "session": "List, save, verify, compare and export sessions.",
    "claim": "Keep claims, and hold them against sessions.",
    "replay": "Watch a saved session; needs no kernel.",
    "artifact": "List, inspect, import and export artifacts.",
    "model": "List models, and the sites of one.",
    "trace": "Write a Chrome trace of a job.",
    "doctor": "Check Python, devices, terminal and folders.",
}


class Root(click.Group):
    """The commands of ``labtui.commands``, imported one at a time: ``labtui --help`` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"labtui.commands.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from labtui_kernels.build import version

        print(f"labtui {version()}")
        ctx.exit()


@click.group(cls=Root, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", metavar="NAME", help="The kernel to open (default: the only one running).")
@click.option("--via", metavar="COMMAND", help=VIA_HELP)
@click.option("--low-bandwidth", is_flag=True, help="Fewer frames, no animation: for slow lines.")
@click.option(
    "--images", metavar="KIND", help="Pictures in pixels: kitty or sixel (default: cells, in half blocks)."
)
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Say which."
)
@click.pass_context
def root(
    ctx: click.Context,
    kernel: str | None,
    via: str | None,
    low_bandwidth: bool,
    images: str | None,
    debug: bool,
) -> None:
    """A lab console for Qwen models: steer, sweep, watch and replay. Without a command, the app opens."""
    ctx.obj = Target(kernel, via, low_bandwidth, debug, images)
    if ctx.invoked_subcommand is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("the app needs a terminal; `labtui --help` lists the commands that do not")
        from labtui.app import run_app

        run_app(ctx.obj)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: run the command and exit with the code that `labtui` promises."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command line; the exit code. No traceback leaves here unless ``--debug`` was given."""
    debug = "--debug" in argv
    if debug:
        argv = [word for word in argv if word != "--debug"]
        argv.insert(0, "--debug")
    try:
        result = root.main(args=argv, prog_name="labtui", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        path = where.command_path if where is not None else "labtui"
        output.note(f"labtui: {error.format_message()} (`{path} --help` lists what it takes)")
        return 2
    except (click.Abort, KeyboardInterrupt):
        return output.report(KeyboardInterrupt(), debug=debug)
    except BrokenPipeError:
        # The reader of our stdout has gone, as `| head` does, and Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:
        return output.report(error, debug=debug)


if __name__ == "__main__":
    main()
