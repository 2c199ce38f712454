"""One chain as one HTML file: no network, no script, nothing from outside. It reads with eyes, on paper, by keyboard and aloud.

Every picture is an SVG with a title and a description, and says nothing that the table below does not say in words. Colours are
variables with a light and a dark value; wait is hollow, run solid, lost red and hatched, so that no meaning hangs on colour alone.
Everything that comes from the ledger is escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from ckptrun import durations
from ckptrun.show import phrases, story, timeline
from ckptrun.show.seen import SeenChain, SeenLink
from ckptrun.show.timeline import Bar, Timeline

WIDTH = 1000
ROW = 26
LEFT = 52
# How many rows a picture draws: a chain of thousands keeps its newest there, and all in the table.
DRAWN = 200

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--run:#0b6bcb;--lost:#c62828;
--window:#e8eaed;--good:#116329;--accent:#0b6bcb}
@media (prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e6e9ec;--soft:#a3adb8;--line:#3a424b;--run:#5aa9f0;--lost:#ff8078;
--window:#2a3037;--good:#6fdc8c;--accent:#7cc0ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:84rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.4rem 0;max-width:60rem;overflow-wrap:anywhere}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
.soft{color:var(--soft)}.state{font-weight:700}.failed,.lost,.stranded{color:var(--lost)}.complete{color:var(--good)}
dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:1rem 0}dl div{min-width:7rem}dt{color:var(--soft);font-size:.85rem}
dd{margin:0;font-size:1.15rem;font-weight:600}
figure{margin:0}figcaption{color:var(--soft);font-size:.9rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:6px}.wide:focus{outline:3px solid var(--accent)}
svg{display:block;width:100%;min-width:54rem;height:auto}text{fill:var(--ink);font:13px system-ui,sans-serif}.axis{fill:var(--soft)}
.grid{stroke:var(--line)}.ran{fill:var(--run)}.lostbar{fill:var(--lost)}.waited{fill:none;stroke:var(--soft);stroke-width:1.5}
.window{fill:var(--window)}.line{fill:none;stroke:var(--run);stroke-width:2}.dot{fill:var(--run)}
.margin{fill:none;stroke:var(--soft);stroke-width:1.5}.hatch{stroke:var(--paper);stroke-width:2}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.4rem .6rem;color:var(--soft)}
th,td{padding:.35rem .6rem;text-align:left;border-top:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}td.d{min-width:6.5rem}td.why{min-width:13rem}td.t{min-width:3rem}
thead th{border:0}
@media (max-width:80rem){table{font-size:.85rem}th,td{padding:.3rem .4rem}td.d{min-width:5.5rem}td.why{min-width:11rem}}
a{color:var(--accent)}
@media print{body{max-width:none;padding:0}.wide{overflow:visible;border:0}svg{min-width:0}
h2,figure{break-inside:avoid}h2{break-after:avoid}tr{break-inside:avoid}
table{font-size:.72rem}th,td{padding:.25rem .35rem}td.d{min-width:4.5rem}td.why{min-width:9rem}td.t{overflow-wrap:anywhere}}
"""


def page(chain: SeenChain, now: float) -> str:
    """Return the whole file."""
    line = timeline.of(chain._replace(links=chain.links[-DRAWN:]))
    pictures = [_timeline(line), _progress(line), _saves(line)] if line is not None else ["<p>No link has started.</p>"]
    body = [_head(chain, now), *pictures, _table(chain.links, now), _told(chain, now)]
    title = escape(phrases.clean(f"{chain.id}: {chain.state}"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n'
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def _text(text: str) -> str:
    return escape(phrases.clean(text))


def _head(chain: SeenChain, now: float) -> str:
    totals = chain.totals
    whole_s = totals.used_s + totals.waited_s
    facts = [("ran", phrases.budget(chain)), ("starts", f"{chain.starts} ({chain.counted} of {chain.bound} counted)")]
    if whole_s > 0:
        shares = (("useful", totals.useful_s), ("waited", totals.waited_s), ("lost", totals.lost_s))
        facts += [(name, f"{value / whole_s:.0%} ({phrases.about(value)})") for name, value in shares]
    if chain.progress.step is not None:
        facts.append(("progress", phrases.steps(chain)))
    shown = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    reason = f": {_text(chain.reason)}" if chain.reason else ""
    return (
        f'<h1>{_text(chain.id)}</h1><p><span class="state {escape(chain.state)}">{escape(chain.state)}</span>{reason}</p>'
        f"<p><code>{_text(shlex.join(chain.command))}</code></p>"
        f'<p class="soft">in {_text(chain.directory)}, since {phrases.moment(chain.created)}; as seen {phrases.moment(now)}</p>'
        f"<dl>{shown}</dl>"
    )


def _figure(title: str, name: str, told: str, height: float, drawn: Sequence[str], caption: str) -> str:
    """Return one picture under a heading: it can be scrolled by keyboard, and is read aloud by its title and description."""
    return (
        f'<h2 id="{name}">{title}</h2><figure><div class="wide" tabindex="0" role="region" aria-labelledby="{name}">'
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{title}</title><desc id="{name}-d">{_text(told)}</desc>{"".join(drawn)}</svg></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _x(line: Timeline, at: float) -> float:
    return LEFT + line.place(at) * (WIDTH - LEFT - 12)


def _axis(line: Timeline, height: float) -> list[str]:
    drawn = []
    for place in range(6):
        at = line.begins_at + (line.ends_at - line.begins_at) * place / 5
        x = _x(line, at)
        anchor = "start" if place == 0 else "end" if place == 5 else "middle"
        drawn.append(f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 22:.0f}"/>')
        label = _text(phrases.moment(at)[4:])
        drawn.append(f'<text class="axis" x="{x:.1f}" y="{height - 6:.0f}" text-anchor="{anchor}">{label}</text>')
    return drawn


def _timeline(line: Timeline) -> str:
    names = list(dict.fromkeys(bar.link for bar in line.bars))
    height = len(names) * ROW + 34
    hatch = (
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
    )
    windows = [bar for bar in line.bars if bar.kind == "window"]
    drawn = [hatch, *(_window(line, bar, height) for bar in windows), *_axis(line, height)]
    for row, name in enumerate(names):
        y = 6 + row * ROW
        drawn.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        drawn += [_bar(line, bar, y) for bar in line.bars if bar.link == name and bar.kind != "window"]
    span = f"from {phrases.moment(line.begins_at)} to {phrases.moment(line.ends_at)}"
    told = f"{len(names)} starts {span}; the table below has the same in words"
    shaded = " Shaded: service windows." if windows else ""
    return _figure(
        "When it waited and ran",
        "timeline",
        told,
        height,
        drawn,
        f"Hollow: waited. Solid: ran. Hatched red: work that was lost.{shaded}",
    )


def _window(line: Timeline, bar: Bar, height: float) -> str:
    x = _x(line, bar.begins_at)
    return f'<rect class="window" x="{x:.1f}" y="0" width="{_x(line, bar.ends_at) - x:.1f}" height="{height - 22:.0f}"/>'


def _bar(line: Timeline, bar: Bar, y: float) -> str:
    x = _x(line, bar.begins_at)
    width = max(_x(line, bar.ends_at) - x, 1.0)
    title = f"<title>link {escape(bar.link)} {bar.kind}: {phrases.about(bar.ends_at - bar.begins_at)}</title>"
    box = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="18"'
    if bar.kind == "lost":
        return f'<g><rect class="lostbar" {box}/><rect fill="url(#hatch)" {box}/>{title}</g>'
    return f'<rect class="{bar.kind}" {box}>{title}</rect>'


def _progress(line: Timeline) -> str:
    if len(line.points) < 2:
        return ""
    height, top = 240, 12
    highest = max([point.step for point in line.points] + ([line.total] if line.total else []))

    def y(step: float) -> float:
        return top + (1 - step / max(highest, 1)) * (height - top - 34)

    drawn = _axis(line, height)
    for step in (0, highest // 2, highest):
        drawn.append(f'<line class="grid" x1="{LEFT}" y1="{y(step):.1f}" x2="{WIDTH - 12}" y2="{y(step):.1f}"/>')
        drawn.append(f'<text class="axis" x="{LEFT - 6}" y="{y(step) + 4:.1f}" text-anchor="end">{_short(step)}</text>')
    for name in dict.fromkeys(point.link for point in line.points):  # between two links nothing is learned
        path = " ".join(f"{_x(line, point.at):.1f},{y(point.step):.1f}" for point in line.points if point.link == name)
        drawn.append(f'<polyline class="line" points="{path}"/>')
    drawn += [
        f'<circle class="dot" cx="{_x(line, point.at):.1f}" cy="{y(point.step):.1f}" r="3.5">'
        f"<title>link {escape(point.link)}: step {point.step}</title></circle>"
        for point in line.points
    ]
    told = f"from step {line.points[0].step} to step {line.points[-1].step}"
    return _figure(
        "Steps over time", "progress", told, height, drawn, "Steps at the starts of links and at their newest checkpoints."
    )


def _short(step: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if step >= 10 * size:
            return f"{step / size:.0f}{unit}"
    return str(step)


def _saves(line: Timeline) -> str:
    rows = [one for one in line.saves if one.slowest_s is not None or one.margin_s is not None]
    longest = max([one.slowest_s or 0.0 for one in rows] + [one.margin_s or 0.0 for one in rows], default=0.0)
    if not any(one.slowest_s is not None for one in rows) or longest <= 0:
        return ""
    height = len(rows) * ROW + 12
    room = WIDTH - LEFT - 130
    drawn = []
    for row, one in enumerate(rows):
        y = 6 + row * ROW
        drawn.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(one.link)}</text>')
        if one.slowest_s is not None:
            width = max(one.slowest_s / longest * room, 1.0)
            drawn.append(f'<rect class="ran" x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="10"/>')
        if one.margin_s is not None:
            drawn.append(f'<rect class="margin" x="{LEFT}" y="{y}" width="{one.margin_s / longest * room:.1f}" height="18"/>')
        words = f"{phrases.seconds(one.slowest_s)} of {phrases.seconds(one.margin_s)}"
        drawn.append(f'<text x="{WIDTH - 12}" y="{y + 14}" text-anchor="end">{words}</text>')
    told = "the slowest save of each link beside the margin that it had"
    return _figure(
        "Saves and margins", "saves", told, height, drawn, "Solid: the slowest save of the link. Frame: the margin it had."
    )


_COLUMNS = ("link", "job", "node", "began", "queued", "ran", "ended because", "checkpoint", "size", "lost", "exit", "log")
_NUMBERS = frozenset({"link", "queued", "ran", "size", "lost", "exit"})


def _kind(column: str) -> str:
    if column in _NUMBERS:
        return "n"
    return {"ended because": "why", "began": "d", "checkpoint": "d"}.get(column, "t")


def _table(links: Sequence[SeenLink], now: float) -> str:
    def cells(link: SeenLink) -> list[str]:
        because = phrases.because(link) + (f": {link.reason}" if link.reason and link.outcome != "complete" else "")
        origin = [phrases.number(link), link.job or "-", link.node or "-", phrases.clock(link.started_at, now)]
        cost = [phrases.about(link.waited_s), phrases.ran(link), because, phrases.span(link), phrases.size(link.size)]
        code = "-" if link.exit_code is None else str(link.exit_code)
        return [*origin, *cost, phrases.about(link.lost_s), code, phrases.name(link.log) if link.log else "-"]

    def row(link: SeenLink) -> str:
        first, *rest = zip(_COLUMNS, cells(link), strict=True)
        tags = "".join(f'<td class="{_kind(name)}">{_text(text)}</td>' for name, text in rest)
        return f'<tr><th scope="row" class="n">{_text(first[1])}</th>{tags}</tr>'

    titles = "".join(f'<th scope="col" class="{_kind(name)}">{name}</th>' for name in _COLUMNS)
    rows = "\n".join(row(link) for link in links)
    return (
        '<h2 id="links">Links</h2><div class="wide" tabindex="0" role="region" aria-labelledby="links">'
        f"<table><caption>One row for each start</caption><thead><tr>{titles}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _told(chain: SeenChain, now: float) -> str:
    paragraphs = [*story.forecast(chain)] if chain.state != "complete" else []
    paragraphs += [" ".join(story.last_end(chain)), " ".join(story.next_up(chain, now))]
    command = story.to_go_on(chain)
    told = "".join(f"<p>{_text(one)}</p>" for one in paragraphs if one)
    told += f"<p>To go on: <code>{_text(command)}</code></p>" if command is not None else ""
    return (
        f'<h2>How it ended, and what comes next</h2>{told}<p class="soft">Running time in all: {durations.show(chain.seconds)}.</p>'
    )
