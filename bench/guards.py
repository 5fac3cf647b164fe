"""What guards cost: CPU per token where nothing is found, and how the cost grows on hostile text.

    python bench/guards.py               about half a minute
    python bench/guards.py --thorough    a million generated texts beside brute force instead

Twenty patterns and 5,000 words stand guard over tokens of English prose, cut as tokenizers cut it:
words with the space before them, long ones in parts. "Nothing to do" calls a method that returns
each token as it is: the difference is what guards add. Turns alternate, and the median of the
rounds' own differences counts, so that a busy machine disturbs both sides.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

from streamll.guards import Pattern, TextGuard, Words, ruleset

PATTERNS = [
    r"\bsk-[A-Za-z0-9_-]{20,}\b",
    r"\bghp_[A-Za-z0-9]{36}\b",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bAIza[0-9A-Za-z_-]{35}\b",
    r"\bxox[abp]-[0-9A-Za-z-]{10,}",
    r"\beyJ[\w-]+\.[\w-]+\.[\w-]+",
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    r"\b(?:\d[ -]?){12,18}\d\b",
    r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b",
    r"\+\d{1,3}[ -]?(?:\d[ -]?){6,12}\d",
    r"\b\d{3}-\d{2}-\d{4}\b",
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    r"https?://[^\s/:@]+:[^\s/@]+@\S+",
    r"(?i)\bpassword\s*[:=]\s*\S+",
    r"-----BEGIN [A-Z ]+-----",
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    r"(?i)\binternal use only\b",
    r"\bproject [A-Z]{3}-\d+\b",
    r"\b(?:[0-9A-F]{2}:){5}[0-9A-F]{2}\b",
    r"(?m)^Confidential:.*$",
]
SYLLABLES = """ba be bi bo bu da de di do du ka ke ki ko ku la le li lo lu ma me mi mo na ne ni ra re
ri ro sa se si so ta te ti to va ve vi"""
SOUNDS = SYLLABLES.split()
PROSE = """the of and to in a is that for it as was with be by on not he his but at are this have from
or had an they which one you were all her she there would their we him been has when who will no more
if out so what up said about other into than its time only could new them man some these then two first
may any like now my such make over our even most me state after also made many did must before back see
through way where get much go well your know should down work year because come people just say each
those take day good how long little own look great still between never last let thought city tree cross
farm hard start might story saw far sea draw left late run while press close night real life few north"""
COMMON = PROSE.split()


def prose(tokens: int, seed: int = 1) -> list[str]:
    """Tokens of text in which half of the words are common, and none is listed."""
    draw = random.Random(seed)
    rare = ["".join(draw.choices(SOUNDS, k=draw.randint(2, 4))) + "n" for _ in range(4000)]
    out: list[str] = []
    while len(out) < tokens:
        word = draw.choice(COMMON) if draw.random() < 0.6 else draw.choice(rare)
        if draw.random() < 0.08:
            out.append(draw.choice([".", ",", ";", "\n", ":"]))
        out.append(" " + word[:5])
        if word[5:]:
            out.append(word[5:])
    return out[:tokens]


def listed(count: int = 5000) -> list[str]:
    draw = random.Random(7)
    words: set[str] = set()
    while len(words) < count:
        words.add("".join(draw.choices(SOUNDS, k=draw.randint(2, 4))) + draw.choice("xyz"))
    return sorted(words)


class Nothing:
    def feed(self, text: str) -> str:
        return text


def cpu(read, tokens: list[str]) -> float:
    started = time.thread_time()
    for token in tokens:
        read(token)
    return (time.thread_time() - started) / len(tokens) * 1e6


def burst(rounds: int, tokens: int) -> None:
    rules = ruleset((*(Pattern(regex=p) for p in PATTERNS), Words(words=listed())))
    started = time.thread_time()
    text = prose(tokens)
    cpu(TextGuard(rules).feed, text)
    first = time.thread_time() - started
    plain, guarded, new = [], [], []
    for turn in range(rounds):
        guard = TextGuard(rules)
        plain.append(cpu(Nothing().feed, text))
        guarded.append(cpu(guard.feed, text))
        assert not guard.hits
        new.append(cpu(TextGuard(rules).feed, prose(tokens, seed=100 + turn)))
    extra = statistics.median(g - p for g, p in zip(guarded, plain, strict=True))
    unseen = statistics.median(n - p for n, p in zip(new, plain, strict=True))
    print(f"Nothing is found: 20 patterns, 5,000 words, {tokens:,} tokens, {rounds} rounds, median")
    print(f"  nothing to do                     {statistics.median(plain):6.2f} µs/token")
    print(f"  guards add                        {extra:6.2f} µs/token")
    print(f"  guards add, text not seen before  {unseen:6.2f} µs/token")
    print(f"  the very first text took          {first / tokens * 1e6:6.2f} µs/token\n")


def documents() -> None:
    """The pages of docs/, half of them after the other half: new words come as they do in texts."""
    pages = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
    cut = [re.findall(r" ?\w{1,6}|\s+|[^\w\s]", page.read_text("utf-8")) for page in pages]
    rules = ruleset((*(Pattern(p, name="docs") for p in PATTERNS), Words(listed(), name="docs")))
    half = len(cut) // 2
    print("The pages of docs/, each a text")
    for name, texts in {
        "first half": cut[:half],
        "second": cut[half:],
        "again": cut[half:],
    }.items():
        tokens = sum(map(len, texts))
        cost = sum(cpu(TextGuard(rules).feed, text) * len(text) for text in texts) / tokens
        print(f"  {name:10} {tokens:7,} tokens          {cost:6.2f} µs/token")
    print()


HOSTILE = {
    "aaaa… under (?:a+)+b": ([r"(?:a+)+b"], lambda n: "a" * n),
    "aaaa… under (?:a|aa)*(?:a|aa)*b": ([r"(?:a|aa)*(?:a|aa)*b"], lambda n: "a" * n),
    "aaaa… under a.{50}b": ([r"a.{50}b"], lambda n: "a" * n),
    "a and c by chance under a.{50}b": (
        [r"a.{50}b"],
        lambda n: "".join(random.Random(1).choices("ac", k=n)),
    ),
    "held to the end, a.*b": ([r"a.*b"], lambda n: "a" + "c" * (n - 1)),
    "found all the time, a.*b": ([r"a.*b"], lambda n: "ab" * (n // 2)),
    "digits, a card's pattern": ([r"\b(?:\d[ -]?){12,18}\d\b"], lambda n: "1" * n),
    "x@x@x@…, an address's": ([r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"], lambda n: "x@" * (n // 2)),
    "any characters, 20 patterns": (
        PATTERNS,
        lambda n: "".join(map(chr, random.Random(2).choices(range(32, 0x3000), k=n))),
    ),
}


def hostile(tokens: int) -> None:
    print(
        f"µs per token of three characters, for {tokens:,} and for {10 * tokens:,} tokens; most memory"
    )
    for name, (patterns, make) in HOSTILE.items():
        costs = []
        for count in (tokens, 10 * tokens):
            rules = ruleset(tuple(Pattern(regex=p, name=str(count)) for p in patterns))
            text = make(3 * count)
            guard = TextGuard(rules)
            started = time.thread_time()
            for at in range(0, len(text), 3):
                guard.feed(text[at : at + 3])
            guard.finish()
            costs.append((time.thread_time() - started) / count * 1e6)
        print(f"  {name:34} {costs[0]:8.2f} {costs[1]:8.2f}  × {costs[1] / costs[0]:.2f}")


def memory(tokens: int) -> None:
    rules = ruleset(
        (*(Pattern(regex=p, name="memory") for p in PATTERNS), Words(words=listed(), name="memory"))
    )
    tracemalloc.start()
    guard = TextGuard(rules)
    draw = random.Random(3)
    for _ in range(tokens):
        guard.feed("".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789-.@ :", k=4)))
    print(
        f"\nMost memory over {tokens:,} tokens of any letters: {tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB"
    )
    tracemalloc.stop()


def thorough(texts: int) -> None:
    """The properties of the tests over so many texts; each ends at its share."""
    for folder in ("guards", "support"):
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / folder))
    import test_exactness as tests
    from hypothesis import HealthCheck, Phase, settings

    compared = Counter()
    name, masked = "", tests.masked

    def counted(text, rules):
        compared[name] += 1
        return masked(text, rules)

    tests.masked = counted
    properties = {
        "patterns": (tests.test_a_pattern_lets_out_what_no_continuation_can_forbid, {}, 0.6),
        "words": (
            tests.test_words_let_out_what_no_continuation_can_forbid,
            {"alphabet": "aSß-"},
            0.3,
        ),
        "any flags": (
            tests.test_rules_of_any_flags_find_the_same_however_the_text_is_cut,
            {},
            0.1,
        ),
    }
    for name, (test, given, share) in properties.items():
        run = settings(
            max_examples=200,
            database=None,
            deadline=None,
            derandomize=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(test)
        while compared[name] < share * texts:
            run(**given)
        print(f"  {name:10} {compared[name]:9,} texts as brute force has them", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--tokens", type=int, default=20_000)
    options.add_argument("--thorough", action="store_true", help="exactness, not cost")
    options.add_argument("--texts", type=int, default=1_000_000)
    options.add_argument("--quick", action="store_true", help="only where nothing is found")
    given = options.parse_args()
    load = os.getloadavg()[0]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {load:.1f}\n")
    if given.thorough:
        thorough(given.texts)
        return
    burst(given.rounds, given.tokens)
    documents()
    if not given.quick:
        hostile(given.tokens // 2)
        memory(given.tokens)


if __name__ == "__main__":
    main()
