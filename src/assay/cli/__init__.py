"""The command line, ``assay``.

1. :mod:`~assay.cli.app` - the commands, grouped by intent; each opens a desk and calls one step.
2. :mod:`~assay.cli.output` - lines, tables, the next command, or one JSON document.

Heavy libraries are imported inside the commands that need them: ``assay --help`` stays quick.
"""

from __future__ import annotations

import sys

from assay.errors import AssayError

_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Expected mistakes exit 1 with a message and no traceback.

    Under ``--json`` the mistake is an object on standard output as well. A command that was typed
    wrongly exits 2, an interrupted one 130.
    """
    import typer

    from assay.cli.app import app

    # Known before the arguments are read, because reading them can be what fails.
    as_json = "--json" in sys.argv[1:]
    try:
        # Its own way of showing a mistyped command is better for people, and no JSON.
        code = app(standalone_mode=not as_json)
    except AssayError as error:
        _fail(error.message, error.hint, as_json=as_json)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "assay"
        _fail(error.format_message(), f"{command} --help", as_json=as_json, code=error.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        _fail(*_explained(error), as_json=as_json)
    except (SystemExit, KeyboardInterrupt) as done:
        # The library under the commands turns Ctrl-C into this exit, without a word.
        if isinstance(done, SystemExit) and done.code != _INTERRUPTED:
            raise
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _fail(
            "interrupted; nothing half-written is kept",
            "run the command again",
            as_json=as_json,
            code=_INTERRUPTED,
        )
    sys.exit(code)


def _fail(message: str, hint: str | None, *, as_json: bool, code: int = 1) -> None:
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"hint:  {hint}\n")
    if as_json:
        import json

        sys.stdout.write(json.dumps({"error": message, "hint": hint}, indent=1) + "\n")
    sys.exit(code)


def _explained(error: OSError) -> tuple[str, str]:
    """What the operating system refused, and on which path."""
    paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    message = f"{error.strerror or error}" + (f": {paths}" if paths else "")
    return message, "check that the path is what it should be, its permissions and the free space"
