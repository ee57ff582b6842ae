#!/usr/bin/env python3
"""Recomputes the promotion gate from exported evidence, sharing no code with the program that decided.

    tenure candidate export NAME | ops/proofs/gate/gate.py

Reads pairs of lines: what the gate said, then the snapshot, to the byte. Checks the snapshot's digest and its canonical
form, counts its runs anew and compares answer, rules and figures. Integers only; Python's standard library only.
Exit codes: 0 everything agrees, 1 something does not (said on stderr), 2 the input is no export.
"""
import hashlib
import json
import sys
from math import comb

FLOORS = {"runs_min": 30, "agree_percent_min": 85, "scored_percent_min": 50}
PHASES = ["off", "assist", "autonomous"]
CATEGORIES = ["fix", "review", "block", "none", None]


def lower_bound(runs, agree, error):
    """Largest p (thousandths) with error/1000 * 1000^n >= (n+1) C(n,s) p^s (1000-p)^(n-s), at most the rate itself."""
    if not runs or not agree:
        return 0
    left, right = error * 1000**runs, 1000 * (runs + 1) * comb(runs, agree)
    low, high = 0, agree * 1000 // runs + 1
    while high - low > 1:
        p = (low + high) // 2
        if left >= right * p**agree * (1000 - p) ** (runs - agree):
            low = p
        else:
            high = p
    return low


def kappa(pairs):
    n = len(pairs)
    both = sum(person == machine is not None for person, machine in pairs)
    chance = sum(sum(p == c for p, _ in pairs) * sum(m == c for _, m in pairs) for c in CATEGORIES)
    return 0 if n * n == chance else 1000 * (n * both - chance) // (n * n - chance)


def evaluate(snapshot):
    rules, runs, at = snapshot["rules"], snapshot["runs"], snapshot["frozen_at"]
    if any(rules[name] < floor for name, floor in FLOORS.items()) or not 1 <= rules["error_per_mille"] <= 50:
        raise ValueError("the rules are laxer than the floors")
    if PHASES.index(snapshot["to"]) != PHASES.index(snapshot["from"]) + 1:
        raise ValueError("it does not lead one phase up")
    inputs = [run["input"] for run in runs]
    if inputs != sorted(set(inputs)):
        raise ValueError("its inputs are not distinct and in order")

    n, agree, refuted, errors, scored, right, twice, same = len(runs), 0, 0, 0, 0, 0, 0, 0
    pairs, vetoes = [], [run["class"] for run in runs if run["class"] in rules["veto_classes"]]
    for run in runs:
        said = run["candidate"] if run["error"] is None else None
        person, again, truth = run["baseline"], run["again"], run["truth"]
        known = truth["opinion"] if truth and truth["at"] <= at else None
        matches = said is not None and said == person
        wrong = matches and known is not None and known != said
        agree, refuted, errors = agree + (matches and not wrong), refuted + wrong, errors + (said is None)
        scored, right = scored + (known is not None), right + (known is not None and known == said)
        twice, same = twice + bool(person and again), same + bool(person and again and person == again)
        pairs.append((person and person["verdict"], said and said["verdict"]))
    bound, chance_free = lower_bound(n, agree, rules["error_per_mille"]), kappa(pairs)

    def share(percent, of):
        return max(1, -(-percent * of // 100))

    def rule(name, have, of, need, missed):
        by = max(0, need - have) if need is not None else 0
        outcome = "shown" if need is None else missed if by else "passed"
        return {"rule": name, "have": have, "of": of, "need": need, "by": by, "outcome": outcome}

    def times(percent, factor):
        return None if percent is None else percent * factor

    enough = n >= rules["runs_min"]
    needed = share(rules["scored_percent_min"], n)
    against = {True: "failed", False: "short"}
    accuracy = None if rules["right_percent_min"] is None else share(rules["right_percent_min"], scored)
    findings = [
        rule("runs", n, n, rules["runs_min"], "short"),
        rule("agreement", agree, n, share(rules["agree_percent_min"], n), against[enough]),
        rule("truth", scored, n, needed, "short"),
        rule("bound", bound, 1000, times(rules["bound_percent_min"], 10), "short"),
        rule("kappa", chance_free, 1000, times(rules["kappa_percent_min"], 10), against[enough]),
        rule("accuracy", right, scored, accuracy, against[enough and scored >= needed]),
        {"rule": "veto", "have": len(vetoes), "of": n, "need": 0, "by": len(vetoes),
         "outcome": "vetoed" if vetoes else "passed"},
    ]
    outcomes = {finding["outcome"] for finding in findings}
    words = [("vetoed", "vetoed"), ("failed", "disagree"), ("short", "insufficient")]
    answer = next((word for outcome, word in words if outcome in outcomes), "eligible")
    figures = {
        "runs": n, "agree": agree, "refuted": refuted, "errors": errors, "scored": scored, "right": right,
        "bound_per_mille": bound, "kappa_per_mille": chance_free, "twice": twice, "twice_same": same,
        "vetoed": len(vetoes), "vetoing": sorted(set(vetoes)),
    }
    return {"answer": answer, "findings": findings, "figures": figures}


def check(claim, frozen):
    """What does not agree; nothing if everything does."""
    if hashlib.sha256(frozen).hexdigest() != claim["snapshot"]:
        return "the snapshot is not the one whose digest is given"
    snapshot = json.loads(frozen)
    canonical = json.dumps(snapshot, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if snapshot["tag"] != "tenure.gate.snapshot.v1" or canonical.encode() != frozen:
        return "the snapshot is not in its canonical form"
    recomputed = evaluate(snapshot)
    differing = [name for name in recomputed if claim[name] != recomputed[name]]
    return "; ".join(f"{name}: {claim[name]} is said, {recomputed[name]} comes out" for name in differing)


def main():
    lines = sys.stdin.buffer.read().splitlines()
    if not lines or len(lines) % 2:
        print("not an export: it has two lines for each snapshot", file=sys.stderr)
        sys.exit(2)
    failed = 0
    for number in range(0, len(lines), 2):
        try:
            claim = json.loads(lines[number])
            wrong = check(claim, lines[number + 1])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            wrong = f"not an export: {error!r}"
        failed += bool(wrong)
        print(f"line {number + 1}: {wrong}" if wrong else f"{claim['snapshot']} {claim['answer']}",
              file=sys.stderr if wrong else sys.stdout)
    sys.exit(1 if failed else 0)


main()
