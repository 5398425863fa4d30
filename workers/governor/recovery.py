"""RECONCILE: a Redis that restarted or failed over is told what this process knows (invariant I5)."""

from __future__ import annotations

import logging

import orjson
import redis

from postback.wire.scripts import named
from tasks.grants import Grants
from workers.governor.identities import Identities
from workers.governor.server import Call, Server
from workers.governor.settle import REMEMBERED_S, Known, Settler
from workers.governor.take import Accounts, quota_settings

logger = logging.getLogger(__name__)


class Recovery:
    """Looks for another Redis than before. In TAKE's thread."""

    def __init__(
        self, server: Server, accounts: Accounts, grants: Grants, settler: Settler, identities: Identities
    ) -> None:
        """Nothing is sent yet; see :class:`~workers.governor.governor.Governor`."""
        self._server, self._accounts, self._grants, self._settler = server, accounts, grants, settler
        self._identities = identities

    def recover_if_restarted(self) -> None:
        """After an error: if this is another Redis than before, tell it what this process knows, before any new TAKE.

        Raises:
            redis.RedisError: Redis is still away.
        """
        server = self._server
        if not server.suspicious:
            return
        # Cleared first: a thread whose settle fails meanwhile asks for another look.
        server.suspicious = False
        try:
            run_id = str(server.client.info("server")["run_id"])
            if server.run_id not in ("", run_id):
                logger.warning("Redis was restarted or failed over: telling it the requests of the last seconds")
                self._identities.learn(server.client)
                self._reconcile()
        except redis.RedisError:
            server.suspicious = True
            raise
        server.run_id = run_id
        server.succeeded()

    def _reconcile(self) -> None:
        """Tell it of everything that was settled in the seconds before it went away, or since, and of what is on its way."""
        for answer in self._settler.settled_since(self._server.good_s - REMEMBERED_S):
            if self._report(answer.known, settled=True):
                self._settler.send(answer)
        for answer in self._settler.unsettled():
            self._report(answer.known, settled=True)
        for grant in self._grants:
            account = self._accounts().get(grant.queue)
            self._report(Known.of(grant, self._identities.of_grant(grant, account)), settled=False)

    def _report(self, known: Known, *, settled: bool) -> bool:
        """Returns whether the grant is in flight now, so that its answer can be applied."""
        account = self._accounts().get(known.queue)
        if account is None:
            return False
        report = {
            "grant": known.id,
            "granted_us": known.granted_us,
            "settled": settled,
            "half": known.group,
            "duplicates": known.duplicates,
            "account": {
                "lease_ms": int(account.lease_s * 1000),
                "dedup_ms": int(account.dedup_s * 1000),
                "windows": quota_settings(known.identity)["windows"],
            },
        }
        return "in_flight" in named(
            self._server.run(Call("reconcile", known.queue, orjson.dumps(report), known.identity), *known.raws)
        )
