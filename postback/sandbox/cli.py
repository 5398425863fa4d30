"""``postback sandbox``, also ``python -m postback.sandbox``."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .faults import Fault
from .ledger import Record
from .providers import ERROR_STYLES, provider_classes
from .sandbox import Sandbox

#: kept by default, so that a sandbox can run for weeks
KEEP_RECORDS = 100_000
KEEP_BODIES = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``postback sandbox``."""
    parser.description = (
        "Serve TGTrack, myTracker, Telegram Analytics, TON AI and TonAPI locally, as their documents describe them."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8900, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--limits",
        action="append",
        default=[],
        metavar="PROVIDER=LIMITS",
        help='limits of each key, like tgtrack="3/second; 500/hour"; empty for none (default: the documented ones)',
    )
    parser.add_argument("--no-limits", action="store_true", help="never answer 429 by itself")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="PROVIDER[.ACCOUNT]=KEY",
        help="a key the provider knows, or env:NAME; it then refuses others (default: any key is taken)",
    )
    parser.add_argument(
        "--tgtrack-errors", choices=ERROR_STYLES, default="http", help="errors by HTTP status or inside HTTP 200"
    )
    parser.add_argument(
        "--tonai-errors", choices=ERROR_STYLES, default="http", help="errors by HTTP status or inside HTTP 200"
    )
    parser.add_argument(
        "--tgtrack-mode", choices=("production", "sandbox"), default="production", help="mode in TGTrack's answers"
    )
    parser.add_argument(
        "--duplicates", action="append", default=[], metavar="PROVIDER", help="answer 409 to a body already recorded"
    )
    parser.add_argument(
        "--latency-ms", default="0", metavar="LOW-HIGH", help="time an answer takes, like 20-300 (default: 0)"
    )
    parser.add_argument("--slow", default="0:0", metavar="SHARE:MS", help="a slow tail, like 0.01:2000")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        help='a fault from the start, like \'{"kind": "503", "count": 3}\'',
    )
    parser.add_argument("--seed", type=int, help="make chance and window phases reproducible")
    parser.add_argument(
        "--keep-records", type=int, default=KEEP_RECORDS, help="requests kept in the ledger (default: %(default)s)"
    )
    parser.add_argument(
        "--keep-bodies", type=int, default=KEEP_BODIES, help="raw bodies kept in the ledger (default: %(default)s)"
    )
    parser.add_argument(
        "--ledger-file", metavar="FILE", help="append every request to FILE as JSON lines (with bodies: personal data)"
    )
    parser.add_argument("--quiet", action="store_true", help="no line per request")


def run(args: argparse.Namespace, *, stop: threading.Event | None = None) -> int:
    """Serve until SIGINT, SIGTERM or `stop`.

    Returns:
        0 after a stop, 1 if the address is taken, 2 for an option that makes no sense.
    """
    try:
        options = _options(args)
        faults = [_fault(text) for text in args.fault]
        sandbox = Sandbox(args.port, host=args.host, listener=None if args.quiet else _log, **options)
    except ValueError as error:
        print(f"postback sandbox: {error}", file=sys.stderr)
        return 2
    except OverflowError:
        print(f"postback sandbox: --port {args.port} is not a port", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"postback sandbox: {_explain(error, args.host, args.port)}", file=sys.stderr)
        return 1
    for fault in faults:
        sandbox.add_fault(fault)
    stopped = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
    try:
        sandbox.start()
    except OSError as error:
        sandbox.close()
        print(f"postback sandbox: {_explain(error, args.host, args.port)}", file=sys.stderr)
        return 1
    with sandbox:
        print(_welcome(sandbox), flush=True)
        stopped.wait()
        stats = sandbox.stats()
        print(
            f"Stopped after {stats['requests']} requests: {stats['events']} events recorded, {stats['429']} × 429.",
            flush=True,
        )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of ``python -m postback.sandbox``."""
    parser = argparse.ArgumentParser(prog="python -m postback.sandbox")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `Sandbox` from the command line.

    Raises:
        ValueError: an option is not in its notation.
    """
    limits: dict[str, str | None] = dict.fromkeys(provider_classes(), "") if args.no_limits else {}
    for item in args.limits:
        provider, equals, text = item.partition("=")
        if not equals:
            raise ValueError(f"--limits {item!r} is not PROVIDER=LIMITS")
        limits[provider.strip()] = text
    keys: dict[str, dict[str, str]] = {}
    for item in args.key:
        name, equals, key = item.partition("=")
        provider, _, account = name.partition(".")
        if not equals or not provider or not key:
            raise ValueError("--key is PROVIDER=KEY or PROVIDER.ACCOUNT=KEY")
        if key.startswith("env:"):
            key = os.environ.get(key[4:], "")
            if not key:
                raise ValueError(f"--key {name}: the environment variable {item.partition('=')[2][4:]} is not set")
        accounts = keys.setdefault(provider, {})
        accounts[account or f"key {len(accounts) + 1}"] = key
    return {
        "limits": limits,
        "keys": keys,
        "latency_ms": _latency(args.latency_ms),
        "slow": _numbers(args.slow, ":", "--slow"),
        "seed": args.seed,
        "errors": {"tgtrack": args.tgtrack_errors, "tonai": args.tonai_errors},
        "mode": args.tgtrack_mode,
        "duplicates": args.duplicates,
        "keep_records": args.keep_records,
        "keep_bodies": args.keep_bodies,
        "ledger_file": args.ledger_file,
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
