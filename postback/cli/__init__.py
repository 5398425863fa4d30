"""The command ``postback``: what operators and developers do from a terminal.

Exit codes: 0 done; 1 the answer is no (something needs a person, an event was refused, an id was not found); 2 it could
not be asked (wrong usage, a wrong setting, Redis away). An error is one sentence on stderr, never a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from postback.cli import accounts, check, dead, erase, sandbox, send, status
from postback.cli.connections import RedisAway
from postback.cli.terminal import Console, say_error
from postback.errors import ConfigurationError, PostbackError, SendError
from postback.operations.queues import UnknownProvider

__all__ = ["main"]

#: Exit codes, see the module's text.
DONE: Final = 0
NO: Final = 1
NOT_ASKED: Final = 2
INTERRUPTED: Final = 130

_COMMANDS: Final = (send, status, dead, accounts, check, erase, sandbox)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser(given).parse_args(given)
    try:
        code: int = args.run(args, Console())
        sys.stdout.flush()
    except (ConfigurationError, RedisAway, SendError, UnknownProvider) as error:
        say_error(str(error))
        return NOT_ASKED
    except PostbackError as error:
        say_error(str(error))
        return NO
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="postback",
        description="Reports bot events within the providers' quotas. Redis is where POSTBACK_BROKER_URL says.",
        epilog="exit codes: 0 done; 1 the answer is no (something needs a person, an event was refused, an id was not "
        "found); 2 it could not be asked (wrong usage, a wrong setting, Redis away)",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands, given)
    return parser
