"""workers room: the status page, one file without anything from outside.

It draws what `/live` sends (workers/snapshot.py) and says so when nothing comes. Every text is put
into the page as text, never as markup. The content security policy allows this very script and
style, by their hashes, and connections to the server that the page came from.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --dim: #888; --good: #2a9d5c; --bad: #d33f49; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem;
  padding: 0 1rem; }
header { display: flex; gap: 1rem; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 1.3rem; margin: 0; }
h2 { font-size: .85rem; margin: 0 0 .3rem; color: var(--dim); font-weight: 600; }
main { display: grid; gap: 1.2rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 31rem), 1fr)); }
section { border: 1px solid var(--line); border-radius: 8px; padding: .8rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 500; color: var(--dim); }
td { text-align: right; border-top: 1px solid var(--line); padding: .15rem .4rem; }
td { white-space: nowrap; }
th { padding: .15rem .4rem; }
th:first-child, td:first-child { text-align: left; }
.good { color: var(--good); } .bad { color: var(--bad); } .dim { color: var(--dim); }
"""

SCRIPT: Final = """
'use strict';
const at = id => document.getElementById(id);
const whole = n => Math.round(n).toLocaleString('en');
const micros = ns => (ns / 1000).toLocaleString('en',
  {minimumFractionDigits: 1, maximumFractionDigits: 1});
function cell(row, text, kind) {
  const td = row.insertCell();
  td.textContent = text;
  if (kind) td.className = kind;
}
function fill(id, rows) {
  const body = document.createElement('tbody');
  for (const cells of rows) {
    const row = body.insertRow();
    for (const one of cells) Array.isArray(one) ? cell(row, one[0], one[1]) : cell(row, one);
  }
  at(id).querySelector('tbody').replaceWith(body);
}
function draw(state) {
  at('engine').textContent = 'tickring ' + state.engine;
  at('run').textContent = 'run ' + state.generation;
  at('halt').textContent = state.halt_text;
  at('halt').className = state.halt ? 'bad' : 'good';
  fill('flows', state.flows.map(f => [f.name, whole(f.per_second), whole(f.count)]));
  fill('latencies', state.latencies.map(l => [l.stage.replaceAll('_', ' '), whole(l.count),
    micros(l.p50), micros(l.p99), micros(l.p99_9), micros(l.max)]));
  const orders = Object.entries(state.orders).filter(([name]) => name !== 'denials');
  const denials = Object.entries(state.orders.denials).filter(([, n]) => n > 0);
  fill('orders', orders.concat(denials.map(([code, n]) => ['denied: ' + code, n]))
    .map(([name, n]) => [name.replaceAll('_', ' '), whole(n)]));
  fill('positions', Object.entries(state.positions).map(([symbol, p]) => [symbol, whole(p.fills),
    p.position + ' ' + p.base,
    [p.profit + ' ' + p.quote, p.profit.startsWith('-') ? 'bad' : 'good']]));
  fill('workers', state.workers.map(w => [w.name, w.pid, w.core === null ? 'any' : w.core,
    [w.state, w.state === 'ready' ? 'good' : 'bad'], w.restarts,
    w.heartbeat_age_ms.toFixed(1) + ' ms']));
  fill('rings', state.rings.map(r => {
    const [reader, lag] = Object.entries(r.lag).sort((a, b) => b[1] - a[1])[0] || ['', 0];
    return [r.name, whole(r.records), whole(lag), reader,
      [(100 * lag / r.capacity).toFixed(0) + ' %', lag * 2 > r.capacity ? 'bad' : '']];
  }));
  fill('errors', state.errors.map(e => [[e.text, 'bad'], e.worker, whole(e.times)]));
  at('errors').parentElement.hidden = state.errors.length === 0;
}
let pause = 250;
function connect() {
  const scheme = location.protocol === 'https:' ? 'wss://' : 'ws://';
  const socket = new WebSocket(scheme + location.host + '/live');
  socket.onmessage = event => {
    pause = 250;
    at('link').textContent = 'live';
    at('link').className = 'good';
    draw(JSON.parse(event.data));
  };
  socket.onclose = () => {
    at('link').textContent = 'no connection';
    at('link').className = 'bad';
    pause = Math.min(2 * pause, 5000);
    setTimeout(connect, pause);
  };
}
connect();
"""

_TABLES: Final = (
    ("flows", "what flows", ("", "per second", "so far")),
    ("latencies", "latency, microseconds", ("", "count", "p50", "p99", "p99.9", "max")),
    ("orders", "orders", ("", "so far")),
    ("positions", "positions", ("", "fills", "position", "profit after fees")),
    ("workers", "workers", ("", "pid", "core", "state", "restarts", "heartbeat")),
    ("rings", "rings", ("", "records", "largest lag", "of", "full")),
    ("errors", "errors", ("", "worker", "times")),
)


def _section(name: str, title: str, columns: tuple[str, ...]) -> str:
    heads = "".join(f"<th>{column}</th>" for column in columns)
    return (
        f"<section><h2>{title}</h2><table id='{name}'>"
        f"<thead><tr>{heads}</tr></thead><tbody></tbody></table></section>"
    )


@cache
def html() -> bytes:
    """Answers the page."""
    sections = "".join(_section(*table) for table in _TABLES)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>tickring</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><style>{STYLE}</style></head><body>"
        "<header><h1 id='engine'>tickring</h1><span id='run' class='dim'></span>"
        "<span id='halt'></span><span id='link' class='dim'>connecting</span></header>"
        f"<main>{sections}</main><script>{SCRIPT}</script></body></html>"
    ).encode()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def policy() -> str:
    """Answers the content security policy of the page."""
    return (
        f"default-src 'none'; script-src 'sha256-{_hash(SCRIPT)}';"
        f" style-src 'sha256-{_hash(STYLE)}'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
