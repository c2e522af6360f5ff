"""A report as Markdown to paste into a pull request or a model card: claims and what they rest on."""

from __future__ import annotations

from dataworth.markdown import line, table
from dataworth.report import Report, Section


def card(report: Report) -> str:
    """The claims, the verb's own sections and what they rest on; not rows, composition, costs, record."""
    claims = [f"- **{line(c.text)}**" + (f": {line(c.detail)}" if c.detail else "") for c in report.claims]
    parts = [f"# dataworth {report.verb} of {line(report.run.name)}", "\n".join(claims)]
    parts += [_section(s) for s in report.sections if not s.told and not s.folded]
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> str:
    lines = "\n".join(f"- {line(said)}" for said in section.lines)
    grids = [(f"{line(g.caption)}\n\n" if g.caption else "") + table(g.header, g.rows) for g in section.grids]
    return "\n\n".join([f"## {line(section.heading)}", *filter(None, [lines]), *grids])
