"""How the command ends: an expected error is one line, and its status says of what kind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

from lessen.core.errors import LessenError

UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # its home moves between versions of typer
INTERRUPTED = 130  # what typer makes of Ctrl-C


def run(app: typer.Typer) -> NoReturn:
    """Run the command; an expected error is one line and exit status 1, a wrong command line one and 2."""
    debug = "--debug" in sys.argv
    sys.path.append(str(Path.cwd()))  # where a user's own package.module:function lies
    try:
        code = app(
            [a for a in sys.argv[1:] if a != "--debug"] or ["--help"],
            standalone_mode=False,
            prog_name="python -m lessen" if Path(sys.argv[0]).name == "__main__.py" else "lessen",
        )
    except UsageError as e:
        _stop(_usage(e), 2, debug)
    except LessenError as e:
        _stop(str(e), 1, debug)
    except OSError as e:
        _stop(f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}", 1, debug)
    except Exception as e:
        _stop(f"unexpected {type(e).__name__}: {e}; the same command with --debug shows where", 1, debug)
    if code == INTERRUPTED:
        _stop("stopped; what was done is kept, and the same command goes on from there", code)
    sys.exit(code or 0)


def _usage(error: Any) -> str:
    """Typer's message in our form."""
    text = error.format_message().strip().rstrip(".")
    command = error.ctx.command_path if error.ctx else "lessen"
    return f"{text[:1].lower()}{text[1:]}{' -' if text.endswith('?') else ';'} see {command} --help"


def _stop(message: str, code: int, debug: bool = False) -> NoReturn:
    if debug:
        raise
    print(f"lessen: {' '.join(message.split())}", file=sys.stderr)  # one line, whatever the user's text holds
    sys.exit(code)
