"""Trying mutants: each in a copy of the tree, until a test fails."""

from __future__ import annotations

import queue
import random
import re
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from scripts.mutants.copy import Copy
from scripts.mutants.finding import mutants, valid
from scripts.mutants.mutant import Mutant
from scripts.mutants.plan import Plan
from scripts.mutants.relevance import Relevance
from scripts.mutants.verdicts import Verdict, Verdicts

T = TypeVar("T")

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)

LEAST = 20
"""Seconds that any mutant has."""


def drawn(plan: Plan, only: list[str], count: int, seed: int) -> list[Mutant]:
    """Mutants at random, of each file as many as is its share."""
    order = random.Random(seed)
    sources = {file: (plan.root / file).read_bytes() for file in plan.files(only)}
    ranked = []
    for file, source in sources.items():
        found = mutants(file, source)
        order.shuffle(found)
        ranked += [((place + order.random()) / len(found), one) for place, one in enumerate(found)]
    ranked.sort(key=lambda each: each[0])
    return list(islice((one for _, one in ranked if valid(one, sources[one.file])), count))


def tried(mutant: Mutant, copy: Copy, relevance: Relevance, seconds: float) -> tuple[str, str]:
    """What becomes of a mutant, and the test that killed it."""
    tests = relevance.of(mutant, seconds)
    if not tests:
        return "unreached", ""
    limit = LEAST + 4 * sum(test["seconds"] for test in tests.values())
    with copy.mistaken(mutant):
        answer = copy.run(["-q", "-x", "--tb=no", *tests], limit)
    if answer.code is None:
        return "timeout", ""
    if answer.code == 0:
        return "survived", ""
    if answer.code in (5, 70):
        raise RuntimeError(f"{mutant}: {answer.said}")
    by = FAILED.search(answer.said)
    return "killed", by[1] if by else ""


def every(
    plan: Plan, chosen: list[Mutant], kept: Path, copies: Path, jobs: int, seconds: float
) -> dict[Mutant, Verdict]:
    """The verdict about each mutant, found in an earlier call or now.

    Arguments:
        kept: The folder that verdicts are kept in.
        copies: A folder for the copies of the tree.
        jobs: How many are tried at a time.
        seconds: How long the tests of one mutant may take together.
    """
    kept.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(copies, ignore_errors=True)
    verdicts = Verdicts(kept / "verdicts.jsonl", plan.test_files())
    relevance, code = Relevance(plan, kept / "tests.json"), plan.digest()
    keys = {one: one.key(code) for one in chosen}

    def judge(copy: Copy, one: Mutant) -> None:
        start = time.monotonic()
        what, by = tried(one, copy, relevance, seconds)
        verdicts.add(Verdict(keys[one], what, by, verdicts.proof(by), round(time.monotonic() - start, 2)))

    open_ones = [one for one in chosen if verdicts.get(keys[one]) is None]
    missing = relevance.missing() if open_ones else []
    pool = [Copy(plan, copies / str(number)) for number in range(min(jobs, len(missing) + len(open_ones)))]
    try:
        _shared(pool, relevance.record, missing, "test files")
        _shared(pool, judge, open_ones, "mutants")
    finally:
        for copy in pool:
            copy.close()
        shutil.rmtree(copies, ignore_errors=True)
    found = {one: verdicts.get(key) for one, key in keys.items()}
    return {one: verdict for one, verdict in found.items() if verdict is not None}


def _shared(pool: list[Copy], work: Callable[[Copy, T], None], things: list[T], unit: str) -> None:
    """Does some work for each thing, in whichever copy is free."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in pool:
        free.put(copy)

    def one(thing: T) -> None:
        copy = free.get()
        try:
            work(copy, thing)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(max(1, len(pool))) as threads:
        done: Iterable[None] = threads.map(one, things)
        try:
            for _ in tqdm(done, total=len(things), unit=unit, disable=None if things else True):
                pass
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # what is under way still ends
            raise
