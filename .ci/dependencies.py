"""Checks `cargo metadata` (standard input) against a deny.toml: the licences, the bans and the sources, as cargo-deny does.

For machines where cargo-deny is not installed. It knows no advisories."""

import json
import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    deny = tomllib.load(file)
packages = json.load(sys.stdin)["packages"]
allowed = set(deny["licenses"]["allow"])
banned = {ban["crate"]: ban for ban in deny["bans"]["deny"]}


def permits(expression):
    """Whether an SPDX expression can be satisfied with what is allowed. `/` is how `OR` was once written."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        good = both()
        while words and words[0] == "OR":
            words.pop(0)
            good = both() or good
        return good

    def both():
        good = single()
        while words and words[0] == "AND":
            words.pop(0)
            good = single() and good
        return good

    def single():
        word = words.pop(0)
        if word == "(":
            good = either()
            words.pop(0)
            return good
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    return either()


problems = []
for package in packages:
    name = f"{package['name']} {package['version']}"
    if not package["license"] or not permits(package["license"]):
        problems.append(f"{name}: the licence `{package['license']}` is not allowed")
    if package["name"] in banned:
        problems.append(f"{name}: banned, {banned[package['name']]['reason']}")
    if package["source"] not in (None, "registry+https://github.com/rust-lang/crates.io-index"):
        problems.append(f"{name}: from {package['source']}")
print("\n".join(problems) or f"{len(packages)} packages, all allowed")
sys.exit(bool(problems))
