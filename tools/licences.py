#!/usr/bin/env python3
"""Checks licence and origin of every dependency against deny.toml, from `cargo metadata` on standard input.

`cargo deny` checks the same and more, but takes minutes to build; this takes a second and reads the same list.
"""

import json
import re
import sys
import tomllib


def acceptable(expression, allowed):
    """Whether an SPDX expression can be satisfied by allowed licences alone.

    >>> mine = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"}
    >>> acceptable("MIT OR GPL-3.0", mine), acceptable("MIT AND GPL-3.0", mine)
    (True, False)
    >>> acceptable("GPL-3.0 OR MIT AND BSD-3-Clause", mine)
    False
    >>> acceptable("(MIT OR GPL-3.0) AND Apache-2.0", mine)
    True
    >>> acceptable("Apache-2.0 WITH LLVM-exception", mine), acceptable("MIT WITH LLVM-exception", mine)
    (True, False)
    >>> acceptable("GPL-3.0/MIT", mine)  # the old way to write OR
    True
    >>> acceptable("MIT)", mine), acceptable("", mine), acceptable("MIT MIT", mine), acceptable("(MIT", mine)
    (False, False, False, False)
    """
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def any_of():
        ok = all_of()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            ok = all_of() or ok
        return ok

    def all_of():
        ok = one()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            ok = one() and ok
        return ok

    def one():
        token = tokens.pop(0)
        if token == "(":
            ok = any_of()
            return tokens.pop(0) == ")" and ok
        if tokens[:1] == ["WITH"]:
            token = " ".join([token, tokens.pop(0), tokens.pop(0)])
        return token in allowed

    try:
        return any_of() and not tokens
    except IndexError:  # the expression ended where a licence or a bracket was due
        return False


def main(policy_path):
    with open(policy_path, "rb") as file:
        policy = tomllib.load(file)
    allowed = set(policy["licenses"]["allow"])
    registries = {"registry+" + url for url in policy["sources"]["allow-registry"]}

    packages = json.load(sys.stdin)["packages"]
    offenders = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        licence, source = package["license"], package["source"]
        if not acceptable(licence or "", allowed):
            offenders.append(f"{name}: licence {licence or 'not stated'} is not in {policy_path}")
        # No source means a path inside this tree.
        if source is not None and source not in registries:
            offenders.append(f"{name}: comes from {source}, which {policy_path} does not allow")

    print("\n".join(offenders) or f"licences and sources of {len(packages)} packages: ok")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
