"""Counts words and sentence openings that the project's English avoids (CONTRIBUTING.md, "Voice").

It reads comments and documents, and separately the texts that users see: string literals of Rust files outside tests
(log messages, errors, command-line help) and HTML templates.

The counts of each kind may only shrink: `.ci/voice.json` has the most that is allowed. After rewriting, lower them with
`python3 .ci/voice.py --update`, which refuses to raise any. `python3 .ci/voice.py src/engine` prints the comments and
texts of these files that count, with the shares of these files alone.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = ROOT / ".ci" / "voice.json"

# Of the words in comments, documents and texts.
WORDS = {
    "persons without a name": r"\b(somebody|nobody|anybody|everybody|whoever|whom|whose)\b",
    "where, for if": r"\bwhere\b",
    "what": r"\bwhat\b",
    "say, said, tell, told": r"\b(say|says|said|tell|tells|told)\b",
    "idiom": r"\b(no longer good|of one's own|there is none|leave to|without further ado)\b",
    "pronoun chain": r"\b(the ones? (that|which|who)|those (which|who)|that which|is no such|are no such)\b",
}
# The kinds of the texts that users see, in the counts.
TEXTS = {kind: f"texts: {kind}" for kind in WORDS}
OPENINGS = r"(What|Whether|Where|Who|Whose|Whom|How)\b"


def comment_blocks(text):
    """The comment blocks of Rust code: consecutive lines of one kind, without their markers."""
    block, marker = [], None
    for line in text.splitlines():
        found = re.match(r"\s*(///|//!|//)\s?(.*)$", line)
        if found and (marker in (None, found[1])):
            marker = found[1]
            block.append(found[2])
            continue
        if block:
            yield marker, " ".join(block)
        block, marker = ([found[2]], found[1]) if found else ([], None)
    if block:
        yield marker, " ".join(block)


def prose(text):
    """Markdown without code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", " ", re.sub(r"```.*?```", " ", text, flags=re.S))


LITERAL = re.compile(
    r"""//[^\n]*|r(?P<hashes>#*)"(?P<raw>.*?)"(?P=hashes)|"(?P<plain>(?:[^"\\]|\\.)*)"|'(?:[^'\\]|\\.[^']*)'""", re.S
)

SQL = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|CREATE) ")


def literals(text):
    """The string literals of Rust code outside its tests with at least three words, without placeholders and SQL."""
    for found in LITERAL.finditer(text.split("#[cfg(test)]\nmod tests {")[0]):
        literal = found["raw"] or re.sub(r"\\\n\s*", "", found["plain"] or "")
        literal = re.sub(r"{[^{}]*}", "X", literal)
        if not SQL.match(literal) and len(re.findall(r"[A-Za-z']+", literal)) >= 3:
            yield prose(literal)


def labels(text):
    """The text of an HTML template, one piece for each element, and the labels of its elements."""
    text = re.sub(r"{#.*?#}|{%.*?%}", "", text, flags=re.S)
    yield from re.findall(r'(?:aria-label|alt|title|placeholder)="([^"]+)"', text)
    for piece in re.split(r"</?(?!a\b|b\b|i\b|bdi\b|code\b|strong\b)[^>]*>", re.sub(r"{{.*?}}", "X", text)):
        piece = re.sub(r"<[^>]*>", "", piece).strip()
        if piece:
            yield piece


def is_test(name):
    """Whether a Rust file has only tests, benchmarks, or support for them."""
    return re.match(r"(tests|benches|examples)/", name) or re.search(r"(^|/)(tests/|tests?\.rs|testing\.rs)", name)


def read(name):
    """Yields the pieces of a file: whether users see it, the marker of a comment, and the piece."""
    text = (ROOT / name).read_text()
    if name.endswith(".html"):
        yield from ((True, None, piece) for piece in labels(text))
    elif name.endswith(".md"):
        yield False, None, text
    else:
        yield from ((False, marker, block) for marker, block in comment_blocks(text))
        if not is_test(name):
            yield from ((True, None, literal) for literal in literals(text))


def main():
    paths = [path for path in sys.argv[1:] if not path.startswith("--")]
    files = subprocess.run(
        ["git", "ls-files", "--", *(paths or ["*.rs", "*.md", "*.html"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    pieces, blocks, opened = {False: [], True: []}, 0, 0
    for name in files.stdout.split():
        if name.startswith("vendor/") or not name.endswith((".rs", ".md", ".html")):
            continue
        for seen, marker, piece in read(name):
            pieces[seen].append(prose(piece))
            counted = any(re.search(pattern, pieces[seen][-1], re.I) for pattern in WORDS.values())
            opening = marker not in (None, "//") and re.match(OPENINGS, piece)
            if paths and not name.endswith(".md") and (counted or opening):
                print(f"{name}: {marker or 'text:'} {piece}")
            if marker not in (None, "//"):
                blocks += 1
                opened += bool(opening)
    counts, words = {}, {}
    for seen, names in ((False, {kind: kind for kind in WORDS}), (True, TEXTS)):
        whole = "\n".join(pieces[seen])
        for kind, pattern in WORDS.items():
            counts[names[kind]] = len(re.findall(pattern, whole, re.I))
            words[names[kind]] = max(len(re.findall(r"[A-Za-z']+", whole)), 1)
    counts["doc comments that open with a question word"] = opened
    limits = json.loads(LIMITS.read_text()) if LIMITS.exists() else {}
    failed = False
    for kind, count in counts.items():
        most = limits.get(kind, count)
        if kind in words:
            share = f"{1000 * count / words[kind]:.1f} per 1,000"
        else:
            share = f"{100 * count / max(blocks, 1):.1f} %"
        bound = "" if paths else f" of at most {most:6}"
        print(f"{count:6}{bound}  {share:>15}  {kind}")
        failed |= count > most
    if paths:
        return 0
    if failed:
        print("use the nouns of the field instead: CONTRIBUTING.md, \"Voice\"")
        return 1
    if "--update" in sys.argv[1:]:
        LIMITS.write_text(json.dumps(counts, indent=2) + "\n")
    elif any(count < limits.get(kind, count) for kind, count in counts.items()):
        print("fewer than allowed; lower the limits with `python3 .ci/voice.py --update`")
    return 0


sys.exit(main())
