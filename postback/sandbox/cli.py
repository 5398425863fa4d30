"""The command ``postback sandbox``, also ``python -m postback.sandbox``."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NoReturn

import click

from .faults import Fault
from .ledger import Record
from .providers import provider_classes
from .sandbox import Sandbox

#: kept by default, so that a sandbox can run for weeks
KEEP_RECORDS: Final = 100_000
KEEP_BODIES: Final = 10_000


@click.command(
    "sandbox",
    context_settings={"show_default": True},
    epilog="\b\nexample:\n  postback sandbox --port 8900 --latency-ms 20-300",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=int, default=8900, help="Port to listen on, 0 for a free one.")
@click.option(
    "--limits",
    multiple=True,
    metavar="PROVIDER=LIMITS",
    help='Limits of each key, like tgtrack="3/second; 500/hour"; empty for none. Without it: the documented ones.',
)
@click.option("--no-limits", is_flag=True, help="Limit no requests: 429 only by --fault.")
@click.option(
    "--key",
    multiple=True,
    metavar="PROVIDER[.ACCOUNT]=KEY",
    help="A key that the provider accepts, or env:NAME; it then refuses others. Without it: any key is accepted.",
)
@click.option("--duplicates", multiple=True, metavar="PROVIDER", help="Answer 409 to a body already recorded.")
@click.option("--latency-ms", default="0", metavar="LOW-HIGH", help="Time an answer takes, like 20-300.")
@click.option("--slow", default="0:0", metavar="SHARE:MS", help="Share of answers that are slow, like 0.01:2000.")
@click.option(
    "--fault", multiple=True, metavar="JSON", help='A fault from the start, like \'{"kind": "503", "count": 3}\'.'
)
@click.option("--seed", type=int, help="Repeat the random choices of another run.")
@click.option("--keep-records", type=int, default=KEEP_RECORDS, help="Requests kept in the ledger.")
@click.option("--keep-bodies", type=int, default=KEEP_BODIES, help="Raw bodies kept in the ledger.")
@click.option(
    "--ledger-file", metavar="FILE", help="Append every request to FILE as JSON lines (with bodies: personal data)."
)
@click.option("--quiet", is_flag=True, help="Print no line for each request.")
@click.pass_context
def command(context: click.Context, /, host: str, port: int, fault: Iterable[str], quiet: bool, **options: Any) -> None:
    """Serve the providers locally, as their documents describe them.

    Exit codes: 0 after a stop (SIGINT, SIGTERM), 1 if the address is taken, 2 for a wrong
    option.
    """
    try:
        faults = [_fault(text) for text in fault]
        sandbox = Sandbox(port, host=host, listener=None if quiet else _log, **_arguments(**options))
    except ValueError as error:
        _end(context, 2, str(error))
    except OverflowError:
        _end(context, 2, f"--port {port} is not a port")
    except OSError as error:
        _end(context, 1, _explain(error, host, port))
    for one in faults:
        sandbox.add_fault(one)
    for provider, option, parameter in _own_options():
        getattr(sandbox.provider(provider), f"set_{option}")(options[parameter])
    stopped = context.find_object(threading.Event) or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
    try:
        sandbox.start()
    except OSError as error:
        sandbox.close()
        _end(context, 1, _explain(error, host, port))
    with sandbox:
        # In one piece: the lines of requests come from other threads.
        sys.stdout.write(f"{_welcome(sandbox)}\n")
        sys.stdout.flush()
        stopped.wait()
        stats = sandbox.stats()
        print(
            f"Stopped after {stats['requests']} requests: {stats['events']} events recorded, {stats['429']} × 429.",
            flush=True,
        )
    context.exit(0)


def _own_options() -> Iterator[tuple[str, str, str]]:
    """Provider, option and the command's parameter of all that only one provider has."""
    for name, provider in provider_classes().items():
        for option in provider.options:
            yield name, option.name, f"{name}_{option.name}"


command.params += [
    click.Option(
        [f"--{name}-{option.name}", f"{name}_{option.name}"],
        type=click.Choice(option.values),
        default=option.values[0],
        help=f"{option.help[0].upper()}{option.help[1:]}.",
    )
    for name, provider in provider_classes().items()
    for option in provider.options
]


def _end(context: click.Context, code: int, reason: str) -> NoReturn:
    print(f"postback sandbox: {reason}", file=sys.stderr)
    context.exit(code)


def _arguments(
    *, limits: Iterable[str], no_limits: bool, key: Iterable[str], latency_ms: str, slow: str, **options: Any
) -> dict[str, Any]:
    """Keyword arguments of `Sandbox` from the command line.

    Raises:
        ValueError: an option is not in its notation.
    """
    of_providers: dict[str, str | None] = dict.fromkeys(provider_classes(), "") if no_limits else {}
    for item in limits:
        provider, equals, text = item.partition("=")
        if not equals:
            raise ValueError(f"--limits {item!r} is not PROVIDER=LIMITS")
        of_providers[provider.strip()] = text
    keys: dict[str, dict[str, str]] = {}
    for item in key:
        name, equals, value = item.partition("=")
        provider, _, account = name.partition(".")
        if not equals or not provider or not value:
            raise ValueError("--key is PROVIDER=KEY or PROVIDER.ACCOUNT=KEY")
        if value.startswith("env:"):
            variable = value.removeprefix("env:")
            value = os.environ.get(variable, "")
            if not value:
                raise ValueError(f"--key {name}: the environment variable {variable} is not set")
        accounts = keys.setdefault(provider, {})
        accounts[account or f"key {len(accounts) + 1}"] = value
    own = {parameter for *_, parameter in _own_options()}
    return {
        "limits": of_providers,
        "keys": keys,
        "latency_ms": _latency(latency_ms),
        "slow": _numbers(slow, ":", "--slow"),
        **{name: value for name, value in options.items() if name not in own},
    }


def _latency(text: str) -> tuple[float, float]:
    return _numbers(text if "-" in text else f"{text}-{text}", "-", "--latency-ms")


def _numbers(text: str, separator: str, option: str) -> tuple[float, float]:
    low, _, high = text.partition(separator)
    try:
        return float(low), float(high)
    except ValueError:
        raise ValueError(f"{option} {text!r} is not two numbers with {separator!r} between them") from None


def _fault(text: str) -> Fault:
    try:
        spec = json.loads(text)
    except ValueError:
        spec = None
    if not isinstance(spec, dict):
        raise ValueError("--fault is not a JSON object")
    fault = Fault.parse(spec)
    if fault.provider not in (None, *provider_classes()):
        raise ValueError(f"--fault: {fault.provider!r} is none of the providers")
    return fault


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; is another sandbox running? Choose another with --port (0: a free one)."
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; choose one above 1023 with --port."
    return f"cannot listen on {host}:{port} or open the ledger file: {error.strerror or error}"


def _welcome(sandbox: Sandbox) -> str:
    lines = [
        f"Postback sandbox on {sandbox.url}",
        f"  page      {sandbox.url}/_sandbox/",
        f"  ledger    {sandbox.url}/_sandbox/ledger",
        "",
        "Put this into the accounts file (config/accounts.toml) for the providers you use:",
    ]
    for name, provider in provider_classes().items():
        lines += ["", f"[{name}.main]", *provider.account_lines, f'base_url = "{sandbox.url}"']
    return "\n".join((*lines, "", "Ctrl-C stops it."))


def _log(record: Record) -> None:
    """One line per request: no key, no personal data."""
    status = "none" if record.status is None else str(record.status)
    inside = f" ({record.code})" if record.status is not None and record.code != record.status else ""
    time = datetime.fromtimestamp(record.at).strftime("%H:%M:%S")
    line = f"{time} {status}{inside} {record.provider} {record.method} key={record.key} {record.reason}\n"
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except (OSError, ValueError):  # whoever read our output is gone; serving goes on
        pass
