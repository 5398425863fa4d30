"""``python -m workers.journal``: moves the journal's records from Redis into its database.

One is enough, wherever Redis and the database can be reached. Of several, one writes for each
Redis; the others stand by.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from functools import partial

from config.settings import load_settings
from postback.errors import ConfigurationError
from postback.journal.refusals import DatabaseAway
from postback.journal.store import Store
from postback.operations.sites import sites
from workers.journal.mover import Mover
from workers.observe import logs
from workers.observe.masking import Masker

logger = logging.getLogger("postback.journal")

#: Seconds for which the end waits for a running transaction.
STOP_S = 10.0
#: Deliveries go first: records may wait for the processor, events may not.
NICE = 10


def main() -> int:
    """Move records until told to stop.

    Returns the exit status; 2 if the settings are wrong, or the database's form is a newer one.
    """
    try:
        settings = load_settings(os.environ)
        masker = Masker()
        masker.learn_broker(settings)
        masker.learn_url(settings.journal_url)
        logs.configure(settings, masker)
        # It repeats rows that a server refuses.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        with contextlib.suppress(DatabaseAway):  # each mover says so and tries again
            Store.writing(settings.journal_url).close()
        movers = [
            Mover(site, partial(Store.writing, settings.journal_url), settings.journal_days)
            for site in sites(os.environ)
        ]
    except ConfigurationError as error:
        print(f"postback: {error}", file=sys.stderr)
        return 2
    os.nice(NICE)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    for mover in movers:
        mover.start()
    stopped.wait()
    for mover in movers:
        mover.close()
    for mover in movers:
        mover.join(STOP_S)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
