"""Counts words and sentence openings that the project's English avoids (CONTRIBUTING.md, "Voice").

The counts of each kind may only shrink: `.ci/voice.json` has the most that is allowed. After rewriting, lower them with
`python3 .ci/voice.py --update`, which refuses to raise any. `python3 .ci/voice.py src/engine` prints the comments of
these files that count, with the shares of these files alone.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = ROOT / ".ci" / "voice.json"

# Of the words in comments and documents.
WORDS = {
    "persons without a name": r"\b(somebody|nobody|anybody|everybody|whoever|whom|whose)\b",
    "where, for if": r"\bwhere\b",
    "what": r"\bwhat\b",
    "say, said, tell, told": r"\b(say|says|said|tell|tells|told)\b",
    "idiom": r"\b(no longer good|of one's own|there is none|leave to|without further ado)\b",
}
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


def main():
    paths = [path for path in sys.argv[1:] if not path.startswith("--")]
    files = subprocess.run(
        ["git", "ls-files", "--", *(paths or ["*.rs", "*.md"])], cwd=ROOT, capture_output=True, text=True, check=True
    )
    texts, blocks, opened = [], 0, 0
    for name in files.stdout.split():
        if name.startswith("vendor/") or not name.endswith((".rs", ".md")):
            continue
        text = (ROOT / name).read_text()
        if name.endswith(".md"):
            texts.append(prose(text))
            continue
        for marker, block in comment_blocks(text):
            texts.append(prose(block))
            counted = any(re.search(pattern, texts[-1], re.I) for pattern in WORDS.values())
            if paths and (counted or marker != "//" and re.match(OPENINGS, block)):
                print(f"{name}: {marker} {block}")
            if marker != "//":
                blocks += 1
                opened += bool(re.match(OPENINGS, block))
    whole = "\n".join(texts)
    counts = {kind: len(re.findall(pattern, whole, re.I)) for kind, pattern in WORDS.items()}
    counts["doc comments that open with a question word"] = opened
    words = len(re.findall(r"[A-Za-z']+", whole))
    limits = json.loads(LIMITS.read_text()) if LIMITS.exists() else {}
    failed = False
    for kind, count in counts.items():
        most = limits.get(kind, count)
        share = f"{100 * count / max(blocks, 1):.1f} %" if "open" in kind else f"{1000 * count / words:.1f} per 1,000"
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
