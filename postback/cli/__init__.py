"""The command ``postback``: what operators and developers do from a terminal.

An error is one sentence on stderr, never a traceback. The reference has each command's exit codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from postback.cli.groups import Commands
from postback.cli.output import in_ascii, say_error, usage_sentence
from postback.cli.wording import no_account
from postback.errors import ConfigurationError, NoJournal, PostbackError, SendError, UnknownAccount
from postback.operations.sites import RedisAway

__all__ = ["main"]

#: Exit codes: done; the answer is no; the command could not run; Ctrl-C.
DONE: Final = 0
NO: Final = 1
NOT_ASKED: Final = 2
INTERRUPTED: Final = 130

#: Command -> its module, and its name there.
_PLACES: Final = {
    "send": ("postback.cli.send", "send"),
    "status": ("postback.cli.status", "status"),
    "find": ("postback.cli.find", "find"),
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
    epilog="Exit codes: 0 done; 1 the answer is no (something needs a person, an event was refused, an id was not found, "
    "you said no); 2 the command could not run (wrong usage, a mistyped name, a wrong setting, Redis away, no journal); 130 Ctrl-C.",
)
@click.version_option(package_name="postback", message="%(prog)s %(version)s")
def postback() -> None:
    """Send events within providers' quotas. Needs the running Redis of POSTBACK_BROKER_URL."""


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
    except UnknownAccount as error:
        say_error(no_account(error.provider, error.account, error.known))
        return NOT_ASKED
    except (ConfigurationError, NoJournal, RedisAway, SendError) as error:
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
