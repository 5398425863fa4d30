"""The page a person reads: the last requests, why they were refused, counts per provider.

No key is on it, and personal data are shortened.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from .access import Access
from .engine import Engine
from .exchange import BadJSON, parse_json
from .faults import Fault
from .ledger import Record
from .provider import Provider

#: requests on the page
MOST_SHOWN: Final = 100

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#667085;--paper:#f6f7f9;--card:#fff;--line:#e4e7ec;
--good:#0b7a4b;--goodbg:#e2f5ec;--bad:#b42318;--badbg:#fdeceb;--wait:#93590a;--waitbg:#fdf2dc}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#97a1b3;--paper:#12161d;--card:#1a2029;
--line:#2b3340;--good:#5fd3a2;--goodbg:#12352a;--bad:#ff9a90;--badbg:#3d1c1a;--wait:#f3c26b;--waitbg:#38290f}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}main{max-width:1240px;margin:0 auto;padding:32px 20px 64px}h1{
font-size:24px;margin:0}p{margin:4px 0 24px;color:var(--soft)}h2{font-size:15px;margin:32px 0 10px}.cards{
display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(190px,1fr))}.card{background:var(--card);
border:1px solid var(--line);border-radius:10px;padding:14px 16px}.card b{display:block;font-size:24px;
line-height:1.3}.card span{color:var(--soft);font-size:13px}.card em{font-style:normal;color:var(--wait)}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}table{
border-collapse:collapse;width:100%;font-size:14px}th{text-align:left;color:var(--soft);font-weight:500}th,td{
padding:8px 12px;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}tr:last-child td{
border-bottom:0}td.wide{white-space:normal;min-width:220px}.num{font-variant-numeric:tabular-nums}.soft{
color:var(--soft)}.chip{display:inline-block;border-radius:6px;padding:0 8px;font-weight:600;
font-variant-numeric:tabular-nums}.good{color:var(--good);background:var(--goodbg)}.bad{color:var(--bad);
background:var(--badbg)}.wait{color:var(--wait);background:var(--waitbg)}code{
font:13px ui-monospace,monospace}.empty{padding:36px;text-align:center;color:var(--soft)}
"""


def shortened(value: Any) -> str:
    """``987654321`` -> ``98…21``; short values leave even less."""
    text = str(value)
    return f"{text[:2]}…{text[-2:]}" if len(text) > 5 else "…"


def summary(record: Record, provider: Provider | None) -> str:
    """What a request was about, without anybody's data: ``sale · user 98…21``.

    Args:
        record: the request.
        provider: whose fields it has; None if nobody's.
    """
    if record.body is None:
        return ""
    try:
        parsed = parse_json(record.body)
    except BadJSON:
        return f"{len(record.body)} bytes" if record.body else ""
    events = parsed if isinstance(parsed, list) else [parsed]
    first = events[0] if events and isinstance(events[0], dict) else {}
    nested = [value for value in first.values() if isinstance(value, dict)]
    fields = {name: value for one in (*nested, first) for name, value in one.items()}
    telling, personal = (provider.telling_fields, provider.person_fields) if provider else ((), ())
    parts = [str(fields[name])[:40] for name in telling if isinstance(fields.get(name), str)]
    parts += [f"user {shortened(fields[name])}" for name in personal if isinstance(fields.get(name), (str, int))]
    if len(events) > 1:
        parts.insert(0, f"{len(events)} events")
    return " · ".join(parts) or f"{len(record.body)} bytes"


def overview(engine: Engine) -> str:
    """The whole page."""
    records, stats = engine.ledger.records(last=MOST_SHOWN), engine.ledger.stats()
    rows = "".join(_row(record, engine.providers.get(record.provider)) for record in reversed(records))
    table = (
        "<div class=scroll><table><thead><tr><th>#<th>time<th>status<th>provider<th>method<th>account"
        "<th>result<th>event</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        if rows
        else '<div class="card empty">No request yet. Set an account’s <code>base_url</code> and send an event.</div>'
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        "<meta http-equiv=refresh content=5><title>Postback sandbox</title>"
        f"<style>{_STYLE}</style></head><body><main><h1>Postback sandbox</h1>"
        "<p>What your bot has sent, and what the provider would have said. This page renews itself every 5 seconds.</p>"
        f"<section class=cards>{_cards(stats)}</section>{_keys(stats, engine.access)}{_faults(engine.faults.listed())}"
        f"<h2>Last {len(records)} requests</h2>{table}</main></body></html>"
    )


def _card(title: str, counts: dict[str, Any]) -> str:
    over = f" · <em>{counts['429']} × 429</em>" if counts["429"] else ""
    return (
        f"<div class=card><span>{escape(title)}</span><b class=num>{counts['events']}</b>"
        f"<span class=num>recorded · {counts['requests']} requests{over}</span></div>"
    )


def _cards(stats: dict[str, Any]) -> str:
    return _card("all providers", stats) + "".join(_card(name, counts) for name, counts in stats["providers"].items())


def _keys(stats: dict[str, Any], access: Access) -> str:
    rows = "".join(
        f"<tr><td>{escape(provider)}<td><code>{escape(key)}</code> {escape(access.name(provider, key))}"
        + "".join(f"<td class=num>{counts[name]}" for name in ("requests", "events", "429", "unanswered"))
        + "</tr>"
        for provider, entry in stats["providers"].items()
        for key, counts in entry["keys"].items()
    )
    if not rows:
        return ""
    heads = "<tr><th>provider<th>key (fingerprint)<th>requests<th>events recorded<th>429<th>unanswered</tr>"
    return f"<h2>Keys</h2><div class=scroll><table><thead>{heads}</thead><tbody>{rows}</tbody></table></div>"


def _faults(faults: Sequence[Fault]) -> str:
    rows = "".join(
        f"<tr><td>{fault.id}<td>{escape(fault.kind)}"
        f"<td>{escape(fault.provider or 'any')}<td>{escape(fault.method or 'any')}"
        f"<td class=num>{fault.hits} of {'∞' if fault.count is None else fault.count}</tr>"
        for fault in faults
    )
    if not rows:
        return ""
    heads = "<tr><th>#<th>fault<th>provider<th>method<th>hits</tr>"
    return f"<h2>Faults</h2><div class=scroll><table><thead>{heads}</thead><tbody>{rows}</tbody></table></div>"


def _row(record: Record, provider: Provider | None) -> str:
    if record.status is None:
        chip = "<span class='chip bad'>none</span>"
    else:
        tone = "wait" if record.code == 429 else "good" if record.code < 400 and not record.fault else "bad"
        inside = f" <span class=soft>in {record.status}</span>" if record.code != record.status else ""
        chip = f"<span class='chip {tone}'>{record.code}</span>{inside}"
    time = datetime.fromtimestamp(record.at).strftime("%H:%M:%S.%f")[:-3]
    account = f"{escape(record.account)} <code class=soft>{escape(record.key)}</code>"
    return (
        f"<tr><td class='num soft'>{record.seq}<td class=num>{time}<td>{chip}"
        f"<td>{escape(record.provider)}<td>{escape(record.method)}"
        f"<td>{account}<td class=wide>{escape(record.reason)}<td class=wide>{escape(summary(record, provider))}</tr>"
    )
