"""``postback pause`` and ``postback resume``."""

from __future__ import annotations

from collections.abc import Mapping

import click

from postback.cli.parameters import example, target
from postback.cli.terminal import Terminal
from postback.cli.wording import counted
from postback.operations import pauses
from postback.operations.sites import site_of
from postback.operations.targets import select


@click.command(epilog=example('postback pause tgtrack.main --detail "new key is on its way"', "postback pause tgtrack"))
@click.argument("place", type=target, metavar="PROVIDER[.ACCOUNT]")
@click.option("--detail", metavar="TEXT", default="", help="A few words that status shows.")
@click.pass_obj
def pause(environ: Mapping[str, str], place: str, detail: str) -> int:
    """Hold an account's events until it is resumed.

    No quota is spent meanwhile. A provider's name means all of its accounts.
    """
    terminal = Terminal()
    with site_of(place.partition(".")[0], environ).asked() as client:
        for queue in select(client, place):
            done = pauses.pause(client, queue, detail)
            what = "paused" if done.changed else f"was already paused ({done.reason})"
            terminal.say(f"{queue} {what}; its events wait until `postback resume {queue}`")
    return 0


@click.command(epilog=example("postback resume tgtrack.main"))
@click.argument("place", type=target, metavar="PROVIDER[.ACCOUNT]")
@click.pass_obj
def resume(environ: Mapping[str, str], place: str) -> int:
    """End an account's pause, whatever its reason.

    One request goes first. A provider's name means all of its accounts.
    """
    terminal = Terminal()
    with site_of(place.partition(".")[0], environ).asked() as client:
        for queue in select(client, place):
            done = pauses.resume(client, queue)
            what = f"resumed (it was paused: {done.reason})" if done.was_paused else "was not paused"
            released = (
                f"; {counted(done.released, 'event')} held aside after a failure go first" if done.released else ""
            )
            terminal.say(f"{queue} {what}{released}")
    return 0
