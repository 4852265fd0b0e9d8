"""The page of a report: one HTML file that needs nothing else, with tables to sort and curves to read off."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sls.data.corpora.corpus import DEMO_CORPUS, SYNTHETIC_NOTE

NO_VALUE = "-"
MAX_FLAT_ROWS = 40
"""A longer table scrolls within the page."""
TableCell = str | tuple[str, float | None]
"""A text, or a number as its text and the value by which it sorts (None sorts last)."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c1c1c;max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem}h2{margin-top:2.4rem;border-bottom:1px solid #ddd;padding-bottom:.2rem}
.muted{color:#666}.note{background:#fff4e5;border-left:4px solid #e08a00;padding:.6rem 1rem;margin:.8rem 0}
.verdict{background:#eef5fb;border-left:4px solid #0072b2;padding:.6rem 1rem;margin:.5rem 0;font-size:16px}
.synthetic{background:#fdecee;border-left:4px solid #b00020;padding:.6rem 1rem;margin:.8rem 0;font-weight:600}
table{border-collapse:collapse;margin:.8rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e4e4e4;text-align:right}td{white-space:nowrap}
th{cursor:pointer;background:#f6f6f6;position:sticky;top:0;user-select:none}th:hover{background:#e9e9e9}
td:first-child,th:first-child,.text{text-align:left}.heat td{border:2px solid #fff;min-width:3.6rem}
.heat th{cursor:default;position:static}.scroll{overflow:auto}.tall{max-height:640px}
img{max-width:min(100%,780px);height:auto}svg{max-width:640px;width:100%;height:auto}
#det-reading{min-height:1.5em;font-weight:600}code{font-size:13px}
"""

_SCRIPT = """
document.querySelectorAll('table.sortable').forEach(t=>t.querySelectorAll('th').forEach((h,i)=>{
 h.title='sort';h.onclick=()=>{const b=t.tBodies[0],d=h.dataset.up=h.dataset.up==='1'?'0':'1';
 const v=r=>{const c=r.cells[i];return c.dataset.v!==undefined?parseFloat(c.dataset.v):c.textContent};
 [...b.rows].sort((x,y)=>{const p=v(x),q=v(y);const s=typeof p==='number'&&typeof q==='number'?
 (isNaN(p)?1:isNaN(q)?-1:p-q):String(p).localeCompare(String(q),undefined,{numeric:true});
 return d==='1'?s:-s}).forEach(r=>b.appendChild(r))}}));
const det=document.getElementById('det-data');if(det){const data=JSON.parse(det.textContent);
const W=640,H=600,L=60,B=50,T=10,R=10,svg=document.getElementById('det');
const probit=p=>{p=Math.min(Math.max(p,1e-9),1-1e-9);const q=p<.5?p:1-p,t=Math.sqrt(-2*Math.log(q));
const z=t-((.010328*t+.802853)*t+2.515517)/(((.001308*t+.189269)*t+1.432788)*t+1);return p<.5?-z:z};
const lo=probit(data.low),hi=probit(data.high),S=(v,a,b)=>a+(probit(v)-lo)/(hi-lo)*(b-a);
const X=v=>S(v,L,W-R),Y=v=>S(v,H-B,T);
const el=(n,a,x)=>{const e=document.createElementNS(
'http://www.w3.org/2000/svg',n);for(const k in a)e.setAttribute(k,a[k]);if(x)e.textContent=x;
svg.appendChild(e);return e};
svg.setAttribute('viewBox',`0 0 ${W} ${H}`);
el('clipPath',{id:'box'});svg.lastChild.innerHTML=`<rect x="${L}" y="${T}" width="${W-L-R}" height="${H-B-T}"/>`;
[.0001,.0002,.0005,.001,.002,.005,.01,.02,.05,.1,.2,.3,.4,.5,.6,.7,.8,.9,.95].filter(t=>t>=data.low&&t<=data.high)
.forEach(t=>{el('line',{x1:X(t),x2:X(t),y1:T,y2:H-B,stroke:'#ddd'});el('line',{x1:L,x2:W-R,y1:Y(t),y2:Y(t),
stroke:'#ddd'});el('text',{x:X(t),y:H-B+18,'text-anchor':'middle','font-size':12},+(100*t).toPrecision(3));
el('text',{x:L-6,y:Y(t)+4,'text-anchor':'end','font-size':12},+(100*t).toPrecision(3))});
el('text',{x:(W+L)/2,y:H-8,'text-anchor':'middle','font-size':14},'false acceptance of spoofed trials, %');
const yl=el('text',{x:0,y:0,'text-anchor':'middle','font-size':14},'false rejection of bona fide trials, %');
yl.setAttribute('transform',`translate(16 ${(H-B)/2}) rotate(-90)`);
data.curves.forEach((c,k)=>{el('polyline',{points:c.far.map((f,i)=>X(f)+','+Y(c.frr[i])).join(' '),fill:'none',
stroke:c.colour,'stroke-width':2.2,'clip-path':'url(#box)'});el('circle',{cx:X(c.eer),cy:Y(c.eer),r:5,fill:c.colour});
el('rect',{x:W-R-14,y:T+10+20*k,width:14,height:4,fill:c.colour});
el('text',{x:W-R-20,y:T+16+20*k,'text-anchor':'end','font-size':13,stroke:'white','stroke-width':4,
'paint-order':'stroke'},c.name)});
const cross=el('line',{y1:T,y2:H-B,stroke:'#444','stroke-dasharray':'4 3',visibility:'hidden'});
svg.onmousemove=e=>{const p=svg.createSVGPoint();p.x=e.clientX;p.y=e.clientY;
const x=p.matrixTransform(svg.getScreenCTM().inverse()).x;if(x<L||x>W-R)return;
cross.setAttribute('x1',x);cross.setAttribute('x2',x);cross.setAttribute('visibility','visible');
const near=c=>c.far.reduce((b,f,i)=>Math.abs(X(f)-x)<Math.abs(X(c.far[b])-x)?i:b,0);
document.getElementById('det-reading').textContent=data.curves.map(c=>{const i=near(c);
const far=(100*c.far[i]).toFixed(2),frr=(100*c.frr[i]).toFixed(2);
return `${c.name}: accepts ${far} % of spoofed, rejects ${frr} % of bona fide`}).join(' | ')}}
"""


def render_page(title: str, lead: str, corpus: str, sections: Iterable[str]) -> str:
    """Returns a whole HTML page, marked as synthetic where the corpus is."""
    is_synthetic = corpus == DEMO_CORPUS
    title = f"{title} (synthetic demo corpus)" if is_synthetic else title
    banner = f'<p class="synthetic">{escape(SYNTHETIC_NOTE)}</p>' if is_synthetic else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="muted">{escape(lead)}</p>{banner}{"".join(sections)}<script>{_SCRIPT}</script></body></html>\n'
    )


def render_section(title: str, *parts: str) -> str:
    """Returns a section with a heading."""
    return f"<h2>{escape(title)}</h2>{''.join(parts)}"


def render_table(header: Sequence[str], rows: Iterable[Sequence[TableCell]]) -> str:
    """Returns a table that sorts by a click on a column; columns without content are left out.

    Args:
        header: Names of the columns.
        rows: A cell for each column.
    """
    rows = list(rows)
    kept = [
        place for place in range(len(header)) if not rows or any(_has_content(row[place]) for row in rows)
    ]
    header = [header[place] for place in kept]
    rows = [[row[place] for place in kept] for row in rows]
    is_text = [isinstance(cell, str) for cell in rows[0]] if rows else [True] * len(header)
    kinds = [' class="text"' if text else "" for text in is_text]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(header, kinds, strict=True))
    body = "".join(f"<tr>{''.join(_render_cell(cell) for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll{" tall" if len(rows) > MAX_FLAT_ROWS else ""}"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def render_heat_table(
    corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[tuple[str, float | None, str]]]
) -> str:
    """Returns a table whose cells are coloured by their share of the largest value.

    Args:
        corner: What rows and columns are.
        columns: Names of the columns.
        rows: By name, for each column a text, a value and what the pointer shows.
    """
    known = [value for cells in rows.values() for _, value, _ in cells if value is not None]
    top = max(known, default=0.0) or 1.0
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_render_heat_cell(*cell, top=top) for cell in cells)}</tr>"
        for name, cells in rows.items()
    )
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><th>{escape(corner)}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def render_image(png: bytes, description: str) -> str:
    """Returns a picture within the page."""
    encoded = base64.b64encode(png).decode("ascii")
    return f'<p><img alt="{escape(description)}" src="data:image/png;base64,{encoded}"></p>'


def render_det(data: Mapping[str, Any]) -> str:
    """Returns DET curves that show their rates under the pointer.

    Args:
        data: `low` and `high` ends of both axes, and `curves` with name, colour, eer, far and frr.
    """
    # No tag may appear within a script element.
    content = json.dumps(data).replace("<", "\\u003c")
    return (
        '<p class="muted">Move the pointer over the curves to read both error rates off.</p>'
        f'<svg id="det" role="img" aria-label="DET curves"></svg><p id="det-reading"></p>'
        f'<script type="application/json" id="det-data">{content}</script>'
    )


def render_note(text: str, kind: str = "note") -> str:
    """Returns a paragraph that stands out (`note` or `verdict`), or one that does not (`scope`)."""
    return f'<p class="{kind}">{escape(text)}</p>'


def _has_content(cell: TableCell) -> bool:
    return (cell if isinstance(cell, str) else cell[0]) not in ("", NO_VALUE)


def _render_cell(cell: TableCell) -> str:
    if isinstance(cell, str):
        return f'<td class="text">{escape(cell)}</td>'
    text, value = cell
    return f'<td data-v="{"nan" if value is None else repr(float(value))}">{escape(text)}</td>'


def _render_heat_cell(text: str, value: float | None, tip: str, top: float) -> str:
    if value is None:
        return f'<td title="{escape(tip)}" style="background:#eee">{escape(text)}</td>'
    share = max(value, 0) / top
    colour = "white" if share > 0.65 else "#222"
    background = f"hsl({48 - 40 * share:.0f} 90% {92 - 52 * share:.0f}%)"
    return f'<td title="{escape(tip)}" style="background:{background};color:{colour}">{escape(text)}</td>'
