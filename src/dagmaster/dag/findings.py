"""What the static check has to say: one finding per fault, with its place, its cause and its mend.

Every code has its long text here, so that `dagmaster explain CODE` and the documentation read the same words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from dagmaster.errors import WorkflowInvalid

FIX_COLUMN = 67
"""Where `retry:` stands on the line of the fix."""
CARETS_MAX = 60
EXCERPT_LENGTH_MAX = 160
"""Of a longer line, a part around the fault is shown."""
NOTE_LENGTH_MAX = 90
"""A longer cause gets a line of its own instead of standing behind the carets."""

CODES: dict[str, str] = {
    "YAML_INVALID": "The file is not YAML that can be read: a syntax error, or more than one document.",
    "YAML_REFUSED": "Aliases, anchors and tags are not part of the language: they hide what a workflow holds.",
    "YAML_DUPLICATE_KEY": "A key stands twice in one mapping; YAML would silently keep the last one.",
    "YAML_TOO_LARGE": "A workflow file is bounded in bytes, depth and number of values.",
    "KEY_UNKNOWN": "The language has no such key here. Unknown keys are errors, so that no typing error is ignored.",
    "KEY_MISSING": "A key that is needed here is not there.",
    "VALUE_INVALID": "The value has the wrong type or is outside of what is allowed here.",
    "VERSION_NORMALISED": "Versions are whole numbers; another form was read as one.",
    "NOT_YET_SUPPORTED": "The language knows this, and this release cannot run it yet.",
    "START_MISSING": "A workflow begins at a node of type start.",
    "END_MISSING": "A workflow finishes at a node of type end.",
    "NODE_UNKNOWN": "An edge leads to a node that does not exist.",
    "CYCLE": "Nodes wait for each other in a circle, so none of them could ever run.",
    "UNREACHABLE": "No start leads to this node, so it would wait for ever or run by accident.",
    "DEAD_END": "No route leads from this node to an end node, so nothing would wait for its result.",
    "BRANCH_INVALID": "A conditional needs distinct branches and exactly one default.",
    "BRANCH_UNREACHABLE": "No combination of branches leads to this node.",
    "END_UNCERTAIN": "Some combination of branches skips every end node; the job would complete without a result.",
    "FAN_IN_WITHOUT_FAN_OUT": "A fan_in gathers the children of exactly one fan_out right before it.",
    "FAN_IN_TWICE": "The children of a fan_out are gathered by one fan_in.",
    "ITEM_OUTSIDE_FAN_OUT": "`item` and `index` exist only in the task of a fan_out.",
    "EXPRESSION_INVALID": "The text in braces is not an expression of the language.",
    "SOURCE_INVALID": "The source of a fan_out must be one expression that yields a list.",
    "REFERENCE_UNKNOWN": "An expression reads an input, a node or an output that does not exist.",
    "REFERENCE_NOT_UPSTREAM": "An expression reads a node that need not have finished when the reader starts.",
    "HANDLER_UNKNOWN": "No bundled handler and no live worker offers a handler of this name.",
    "PARAM_UNKNOWN": "The handler does not take a parameter of this name.",
    "PARAM_MISSING": "The handler needs a parameter that is not given.",
    "PARAM_INVALID": "A literal parameter does not fit what the handler declares.",
    "INPUT_DECLARATION_INVALID": "The declaration of an input contradicts itself.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. Lines and columns count from 1; without a source file they are None."""

    severity: Literal["error", "warning"]
    code: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    node: str | None = None
    why: str | None = None
    fix: str | None = None
    excerpt: str | None = None
    """The source line."""
    width: int = 1
    """How many characters the fault covers."""

    @property
    def where(self) -> str | None:
        if self.line is None:
            return f"node {self.node}" if self.node else self.file
        return f"{self.file}:{self.line}:{self.column}"

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: that of every error, with the severity and the place in numbers."""
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "why": self.why,
            "remedy": self.fix,
            "retryable": False,
            "node": self.node,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "excerpt": self.excerpt if self.excerpt is None or len(self.excerpt) <= EXCERPT_LENGTH_MAX else None,
            "width": self.width,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """The finding whose JSON form this is."""
        known = {name: document.get(name) for name in ("file", "line", "column", "node", "why", "excerpt")}
        return cls(
            document["severity"], document["code"], document["message"], fix=document.get("remedy"),
            width=document.get("width", 1), **known,
        )  # fmt: skip


def render(finding: Finding) -> str:
    """The finding as people read it."""
    lines = [f"{finding.severity}[{finding.code}]: {finding.message}"]
    why = finding.why
    if finding.where is not None:
        lines.append(f"  --> {finding.where}" if finding.line is not None else f"  where: {finding.where}")
    if finding.excerpt is not None and finding.column is not None:
        note = why if why is not None and len(why) <= NOTE_LENGTH_MAX else None
        lines.extend(_pointed(finding.excerpt, finding.column, finding.width, note))
        why = None if note is not None else why
    if why is not None:
        lines.append(f"  why: {why}")
    fix = f"  fix: {finding.fix}" if finding.fix else ""
    lines.append(f"{fix.ljust(FIX_COLUMN - 2)}  retry: does not help")
    return "\n".join(lines)


def render_all(findings: Iterable[Finding]) -> str:
    """All findings with an empty line between them."""
    return "\n\n".join(render(finding) for finding in findings)


def _pointed(excerpt: str, column: int, width: int, note: str | None) -> list[str]:
    text = excerpt.rstrip()
    shown = text.lstrip()
    at = max(0, column - 1 - (len(text) - len(shown)))
    if len(shown) > EXCERPT_LENGTH_MAX:
        start = max(0, at - EXCERPT_LENGTH_MAX // 2)
        shown, at = shown[start : start + EXCERPT_LENGTH_MAX], at - start
    carets = "^" * max(1, min(width, CARETS_MAX))
    return [f"   |  {shown}", f"   |  {' ' * at}{carets}{' ' + note if note else ''}"]


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that forbid a run."""
    return [finding for finding in findings if finding.severity == "error"]


def refuse(findings: Sequence[Finding]) -> None:
    """Raise `WorkflowInvalid` if one of the findings is an error; it carries all of them as `facts["findings"]`."""
    faults = errors(findings)
    if not faults:
        return
    first = faults[0]
    raise WorkflowInvalid(
        where=first.where,
        why=first.why if len(faults) == 1 else None,
        remedy=first.fix if len(faults) == 1 and first.fix else f"dagmaster workflow check {first.file or 'FILE'}",
        node=first.node,
        count="an error" if len(faults) == 1 else f"{len(faults)} errors",
        first=first.message,
        findings=list(findings),
    )


def near_miss(word: str, known: Iterable[str]) -> str | None:
    """What the author probably meant, if something known is close."""
    candidates = sorted(known)
    folded = {candidate.lower(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def listing(words: Iterable[str], most: int = 12) -> str:
    """A short list for a message; what is left out is counted."""
    names = list(words)
    text = ", ".join(names[:most]) if names else "nothing"
    return text if len(names) <= most else f"{text} and {len(names) - most} more"
