"""`Sandbox`: the providers in threads of this process, for tests and development."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .access import Keys
from .engine import Engine
from .exchange import fingerprint
from .faults import Fault
from .ledger import Record
from .provider import ErrorStyle, Provider
from .refusals import Refusal
from .server import Latency, Server


class Sandbox:
    """A faithful local server of all providers.

    One address serves them all: give it to every account as ``base_url``::

        with Sandbox(limits={"tgtrack": "20 per 10 seconds"}) as sandbox:
            ...  # base_url = sandbox.url
            sandbox.wait_for(lambda s: s.stats()["events"] == 3, timeout_s=5)

    It also has the methods that its providers' `controls` name: ``tonapi_script``, ``set_mode``,
    ``set_user``.

    Args:
        port: 0 takes a free one.
        host: address to listen on.
        limits: provider -> limits of each key (``"3/second; 500/hour"``), None or ``""`` for none.
            A provider without an entry keeps its documented limits.
        latency_ms: least and most time an answer takes, split at random before and after the
            request counts.
        slow: (share 0…1, ms): a share of requests takes so much longer.
        seed: makes window phases and chance reproducible.
        keys: provider -> keys (or {account name: key}); the provider then refuses others. A
            provider without an entry takes any key.
        errors: provider -> ``http``, ``body`` (inside HTTP 200) or ``mixed``, where it has a
            choice.
        duplicates: providers that answer 409 to a body already recorded.
        keep_records: requests kept in the ledger; None keeps all. Counts are exact all the same.
        keep_bodies: requests whose raw body (and events) are kept; None keeps all.
        ledger_file: JSON lines are appended to it.
        listener: called with each `Record`.
        clock: seconds, never going back; measures the windows.
        settings: values for methods ``set_…`` of providers: ``mode="sandbox"`` for ``set_mode``.

    Raises:
        ValueError: an unknown provider, notation or style.
        TypeError: a setting that no provider has.
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        limits: Mapping[str, str | None] | None = None,
        latency_ms: tuple[float, float] = (0, 0),
        slow: tuple[float, float] = (0, 0),
        seed: int | None = None,
        keys: Keys | None = None,
        errors: Mapping[str, ErrorStyle] | None = None,
        duplicates: Sequence[str] = (),
        keep_records: int | None = None,
        keep_bodies: int | None = None,
        ledger_file: Path | str | None = None,
        listener: Callable[[Record], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        self._engine = Engine(
            limits=limits,
            keys=keys,
            clock=clock,
            seed=seed,
            keep_records=keep_records,
            keep_bodies=keep_bodies,
            ledger_file=ledger_file,
            listener=listener,
        )
        try:
            for provider, style in (errors or {}).items():
                self.set_errors(provider, style)
            for name, value in settings.items():
                if f"set_{name}" not in self._engine.methods:
                    raise TypeError(f"no provider of the sandbox has a setting {name!r}")
                self._engine.methods[f"set_{name}"](value)
            for provider in duplicates:
                self._engine.watch_duplicates(provider)
            self._server = Server((host, port), self._engine, Latency(latency_ms, *slow))
        except BaseException:
            self._engine.ledger.close()
            raise
        self._started = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method that a provider's `controls` name."""
        engine = self.__dict__.get("_engine")
        if engine is None or name not in engine.methods:
            raise AttributeError(f"neither the sandbox nor any of its providers has {name!r}")
        method: Callable[..., Any] = engine.methods[name]
        return method

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen; a sandbox used as a context manager does so by itself."""
        if not self._started:
            self._started = True
            self._server.start()

    def close(self) -> None:
        """Stop serving and let go of every connection; the ledger stays readable."""
        self._server.stop()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What goes into ``base_url``."""
        host = str(self._server.server_address[0])
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"

    def ledger(
        self,
        provider: str | None = None,
        *,
        recorded: bool | None = None,
        since: int = 0,
        key: str | None = None,
        method: str | None = None,
        last: int | None = None,
    ) -> list[Record]:
        """Requests in the order in which they were decided; `key` is the key itself."""
        return self._engine.ledger.records(
            provider=provider,
            recorded=recorded,
            since=since,
            key=fingerprint(key) if key else None,
            method=method,
            last=last,
        )

    def events(self, provider: str | None = None, *, method: str | None = None, key: str | None = None) -> list[Any]:
        """The events recorded, one by one, batches unpacked, in the provider's own JSON."""
        return [
            event for record in self.ledger(provider, recorded=True, method=method, key=key) for event in record.events
        ]

    def stats(self) -> dict[str, Any]:
        """Exact counts ``requests, accepted, recorded, events, 429, unanswered``.

        The same per provider in ``providers``, and there per key fingerprint in ``keys``.

        ``accepted`` and ``recorded`` count requests (a look-up is accepted, but records nothing),
        ``events`` counts recorded events.
        """
        return self._engine.ledger.stats()

    def wait_for(self, predicate: Callable[[Sandbox], Any], timeout_s: float = 10.0) -> None:
        """Wait until ``predicate(sandbox)`` is true; it is asked again after every request.

        Raises:
            TimeoutError: it did not become true in time.
        """
        deadline = time.monotonic() + timeout_s
        ledger = self._engine.ledger
        while True:
            seq = ledger.seq
            if predicate(self):
                return
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not ledger.wait_beyond(seq, remaining_s):
                if predicate(self):
                    return
                latest = "; ".join(
                    f"{record.provider}.{record.method} {record.reason}" for record in ledger.records(last=3)
                )
                requests = self.stats()["requests"]
                raise TimeoutError(
                    f"not true within {timeout_s} s; {requests} requests, the latest: {latest or 'none'}"
                )

    def fault(self, kind: str | int, **fields: Any) -> Fault:
        """Put a fault in force: see `Fault` for the fields; `key` is the key itself.

        Raises:
            ValueError: an unknown kind, field or provider.
        """
        return self.add_fault(Fault.parse({"kind": kind, **fields}))

    def add_fault(self, fault: Fault) -> Fault:
        """Put a fault in force that is already made.

        Raises:
            ValueError: it names an unknown provider.
        """
        return self._engine.add_fault(fault)

    def clear_faults(self, fault: Fault | None = None) -> None:
        """Remove one fault or all; connections that they hold are let go."""
        self._engine.faults.clear(fault.id if fault else None)

    def refuse(
        self, provider: str, field: str, value: Any, *, method: str | None = None, code: int | None = None
    ) -> None:
        """Refuse valid events whose `field` (dotted path) equals `value`, for good.

        A batch that holds one is refused whole.
        """
        self._engine.provider(provider)
        self._engine.refusals.add(Refusal(provider, field, value, method, code))

    def clear_refusals(self) -> None:
        """Take those events again."""
        self._engine.refusals.clear()

    def revoke(self, provider: str, key: str, code: int = 0) -> None:
        """Refuse a key from now on, with the provider's usual answer or that of `code`."""
        self._engine.provider(provider)
        self._engine.access.revoke(provider, key, code)

    def restore(self, provider: str, key: str) -> None:
        """Take a revoked key again."""
        self._engine.access.restore(provider, key)

    def scope(self, provider: str, key: str, value: str) -> None:
        """Tie a key to one app: a myTracker token to an ``idApp``, for example."""
        self._engine.provider(provider)
        self._engine.access.scope(provider, key, value)

    def set_limits(self, provider: str, limits: str | None, key: str | None = None) -> None:
        """Change the limits of a key, or of all keys of a provider.

        Counted requests stay counted.
        """
        self._engine.set_limits(provider, limits, fingerprint(key) if key else None)

    def set_errors(self, provider: str, style: ErrorStyle, key: str | None = None) -> None:
        """Change how a provider's errors travel, for a key or for all."""
        self.provider(provider).set_errors(style, key)

    def provider(self, name: str) -> Provider:
        """A provider's server.

        Raises:
            ValueError: there is none of that name.
        """
        return self._engine.provider(name)

    def set_duplicates(self, provider: str, on: bool = True) -> None:
        """Answer 409 to a body that is already recorded, or stop doing so."""
        self._engine.watch_duplicates(provider, on)

    def set_latency(self, latency_ms: tuple[float, float] = (0, 0), slow: tuple[float, float] = (0, 0)) -> None:
        """Change how long answers take, from the next request on."""
        self._server.latency = Latency(latency_ms, *slow)

    def phase_s(self, provider: str, key: str, window_s: float, account: str = "") -> float:
        """Where a key's windows begin on the sandbox's clock, plus any multiple of `window_s`."""
        return self._engine.windows.phase_s((provider, fingerprint(key), account), window_s)

    def pause_listening(self) -> None:
        """Refuse connections until `resume_listening`.

        Kept connections are closed, busy ones after their answer.
        """
        self._server.pause()

    def resume_listening(self) -> None:
        """Listen again on the same port."""
        self._server.resume()

    def reset(self) -> None:
        """Forget ledger, faults, rules, scripts and quota counters; phases and settings stay."""
        self._engine.clear()
