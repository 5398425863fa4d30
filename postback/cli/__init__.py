"""The command ``postback``: what operators and developers do from a terminal.

Exit codes: 0 done; 1 the answer is no (something needs a person, an event was refused, an id was
not found); 2 it could not be asked (wrong usage, a wrong setting, Redis away). An error is one
sentence on stderr, never a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from postback.cli.groups import Commands
from postback.cli.output import in_ascii, say_error, usage_sentence
from postback.errors import ConfigurationError, PostbackError, SendError
from postback.operations.queues import UnknownProvider
from postback.operations.sites import RedisAway

__all__ = ["main"]

#: Exit codes, see the module's text.
DONE: Final = 0
NO: Final = 1
NOT_ASKED: Final = 2
INTERRUPTED: Final = 130

#: Command -> its module, and its name there.
_PLACES: Final = {
    "send": ("postback.cli.send", "send"),
    "status": ("postback.cli.status", "status"),
    "dead": ("postback.cli.dead", "dead"),
    "pause": ("postback.cli.pauses", "pause"),
    "resume": ("postback.cli.pauses", "resume"),
    "check": ("postback.cli.check", "check"),
    "erase": ("postback.cli.erase", "erase"),
    "sandbox": ("postback.sandbox.cli", "command"),
}


@click.command(
    cls=Commands,
    places=_PLACES,
    no_args_is_help=False,
    epilog="Exit codes: 0 done; 1 the answer is no (something needs a person, an event was refused, an id was not found); "
    "2 it could not be asked (wrong usage, a wrong setting, Redis away).",
)
def postback() -> None:
    """Report bot events within the providers' quotas. Redis is where POSTBACK_BROKER_URL says."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the command and return its exit code.

    Args:
        argv: The words after ``postback``; None: those of this process.
        environ: Where the commands look for Postback's settings.
    """
    in_ascii(sys.stdout)
    try:
        with postback.make_context("postback", list(sys.argv[1:] if argv is None else argv), obj=environ) as context:
            code: int | None = postback.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        say_error(usage_sentence(error))
        return NOT_ASKED
    except (ConfigurationError, RedisAway, SendError, UnknownProvider) as error:
        say_error(str(error))
        return NOT_ASKED
    except PostbackError as error:
        say_error(str(error))
        return NO
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code or DONE
