"""A plan as one self-contained HTML page: a bar for the memory of a device, and the tables."""

import html
from collections.abc import Iterator
from pathlib import Path

from ivjax.drafts import store
from ivjax.plan.compiled_step import CompiledStep
from ivjax.plan.table import lines
from ivjax.plan.training_plan import TrainingPlan, gaps
from ivjax.plan.units import gib

_COLOURS = ("#1f5fa8", "#4f8fd0", "#8ab8e6", "#d9772b", "#eab38a", "#7a5fa8", "#b8b8b8", "#8a8a8a")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.bar { display: flex; height: 2.4rem; background: #eee; position: relative }
.bar div { height: 100% } .limit { position: absolute; width: 2px; background: #c0262d; height: 100% }
.key span { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border-radius: 2px }
td, th { padding: .1rem 1rem .1rem 0; text-align: left } td.number { text-align: right }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; border-radius: 4px }
.no { color: #c0262d; font-weight: 600 } .yes { color: #22863a; font-weight: 600 }
"""


def write_page(plan: TrainingPlan, out: Path) -> Path:
    """Writes the page, whole or not at all; returns its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    store(out, page(plan))
    return out


def page(plan: TrainingPlan) -> str:
    """Returns the page as HTML."""
    title = html.escape(f"{plan.name} on {plan.topology.name}")
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
            f"<p>{_verdict(plan)} {html.escape(plan.summary())}</p>",
            "<h2>Memory of a device</h2>",
            *_memory(plan),
            "<h2>The whole plan</h2>",
            f"<pre>{html.escape(chr(10).join(lines(plan)))}</pre>",
            "</body></html>\n",
        ]
    )


def _verdict(plan: TrainingPlan) -> str:
    return '<span class="yes">Fits.</span>' if plan.fits else '<span class="no">Does not fit.</span>'


def memory_breakdown(plan: TrainingPlan) -> dict[str, int]:
    """Returns the bytes of a device by what fills them, largest first; as compiled if it was compiled."""
    memory, found = plan.estimate.memory, plan.compiled
    filled = {kind: size for kind, size in memory.given.items() if size}
    if isinstance(found, CompiledStep):
        filled |= {"temporaries": found.alive, "gaps of the heap": found.heap - found.alive}
        filled |= {"program and outputs": found.code + found.output}
    else:
        wasted = gaps(memory, plan.topology.chip)
        filled |= {"temporaries": memory.temporaries, "gaps of the heap": wasted}
    return dict(sorted(filled.items(), key=lambda item: -item[1]))


def _memory(plan: TrainingPlan) -> Iterator[str]:
    usable = plan.topology.chip.usable_memory
    filled = memory_breakdown(plan)
    scale = 100 / max(usable, sum(filled.values()))
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(filled)}
    yield '<div class="bar">'
    for name, size in filled.items():
        yield (
            f'<div style="width:{size * scale:.3f}%;background:{colours[name]}" '
            f'title="{html.escape(name)}: {gib(size)}"></div>'
        )
    left = usable * scale - 0.2
    yield f'<div class="limit" style="left:{left:.3f}%" title="limit: {gib(usable)}"></div></div>'
    yield '<table class="key">'
    for name, size in filled.items():
        yield (
            f'<tr><td><span style="background:{colours[name]}"></span>{html.escape(name)}</td>'
            f'<td class="number">{gib(size)}</td><td class="number">{size / usable:.1%}</td></tr>'
        )
    yield f'<tr><th>a device has</th><th class="number">{gib(usable)}</th><th></th></tr></table>'
