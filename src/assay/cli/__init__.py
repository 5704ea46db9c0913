"""The command line, ``assay``.

1. :mod:`~assay.cli.app` - the commands, grouped by intent; each opens a desk and calls one step.
2. :mod:`~assay.cli.output` - lines, tables, the next command, or one JSON object.

Heavy libraries are imported inside the commands that need them: ``assay --help`` stays quick.
"""

from __future__ import annotations

import sys

from assay.errors import AssayError


def main() -> None:
    """Run the command line. Expected mistakes exit 1 with a message and no traceback."""
    from assay.cli.app import app

    try:
        app()
    except AssayError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint:  {error.hint}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing half-written is kept, run the command again\n")
        sys.exit(130)
