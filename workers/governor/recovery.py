"""RECONCILE: tells a Redis that restarted or failed over what it may have forgotten (I5)."""

from __future__ import annotations

import logging

import orjson
import redis

from postback.wire.scripts import named
from tasks.grants import Grants
from workers.governor.identities import Identities
from workers.governor.server import Call, Server
from workers.governor.settle import REMEMBERED_S, GrantRecord, Settler
from workers.governor.take import Accounts, quota_settings

logger = logging.getLogger(__name__)


class Recovery:
    """Recovers after a failed call. In the rounds' thread."""

    def __init__(
        self, server: Server, accounts: Accounts, grants: Grants, settler: Settler, identities: Identities
    ) -> None:
        """Nothing is sent yet; see :class:`~workers.governor.governor.Governor`."""
        self._server, self._accounts, self._grants, self._settler = server, accounts, grants, settler
        self._identities = identities

    def recover(self) -> None:
        """After a failed call: if this is another Redis than before, report the grants to it.

        Raises:
            redis.RedisError: Redis is still away.
        """
        server = self._server
        # Cleared first: a call that fails meanwhile sets it again.
        server.suspicious = False
        try:
            run_id = str(server.client.info("server")["run_id"])
            if server.run_id not in ("", run_id):
                logger.warning("Redis was restarted or failed over: reporting the last seconds' requests to it")
                self._identities.learn(server.client)
                self._reconcile()
        except redis.RedisError:
            server.suspicious = True
            raise
        server.run_id = run_id
        server.succeeded()

    def _reconcile(self) -> None:
        """Report grants in flight, and those settled shortly before it went away or later."""
        for call in self._settler.settled_since(self._server.good_s - REMEMBERED_S):
            if self._report(call.record, settled=True):
                self._settler.send(call)
        for call in self._settler.unsettled():
            self._report(call.record, settled=True)
        for grant in self._grants:
            account = self._accounts().get(grant.queue)
            self._report(GrantRecord.of(grant, self._identities.of_grant(grant, account)), settled=False)

    def _report(self, record: GrantRecord, *, settled: bool) -> bool:
        """Report one grant. Returns whether it is in flight now, so that it can be settled."""
        account = self._accounts().get(record.queue)
        if account is None:
            return False
        report = {
            "grant": record.id,
            "granted_us": record.granted_us,
            "settled": settled,
            "half": record.group,
            "duplicates": record.duplicates,
            "record": record.journal.decode(),
            "journal": self._server.journal,
            "account": {
                "lease_ms": int(account.lease_s * 1000),
                "dedup_ms": int(account.dedup_s * 1000),
                "windows": quota_settings(record.identity)["windows"],
            },
        }
        return "in_flight" in named(
            self._server.run(Call("reconcile", record.queue, orjson.dumps(report), record.identity), *record.raws)
        )
