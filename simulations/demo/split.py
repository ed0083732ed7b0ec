#!/usr/bin/env python3
"""Splits the ICD-10-CM titles into the demo's five unequal sites and a public test set.

    split.py TITLES_CSV OUT_FOLDER [--seed 2026]

OUT_FOLDER gets `site-1.csv` … `site-5.csv`, `pooled.csv` (all sites) and `test.csv`, with columns patient_id, text, label;
`labels.txt`, one label a line, in the order of the classes; `split.json`, what went where.

The task: tell the chapter (21 classes) from a code's title. A title stands for a patient: patient_id is the code.

- Equal titles (but for case) count once.
- Test titles come from three-character categories that no site trains on, so that knowing a sibling code does not help;
  within them they are drawn as the training titles are drawn within theirs: any title as likely as any other.
- Each chapter gives at most 460 training titles; they are dealt to the sites by a Dirichlet(0.3)-multinomial.
- Every site has at least 1,200 titles; every chapter is at two sites or more. Draws that miss this are drawn again.

Only hashes and integers decide, so every Python makes the same files. Python >= 3.9, standard library only.
"""
import argparse
import csv
import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path

SITES = 5
TRAIN_PER_CHAPTER = 460
TEST_PER_CHAPTER = 55
HELD_OUT = 6  # at least one category in six is kept from training
SITE_MINIMUM = 1200
PRESENT = 5  # titles that make a chapter "present" at a site

# Chapter XXII (U00-U85, codes for special purposes) holds five codes: left out.
LABELS = {
    "I": "I Infections (A00-B99)",
    "II": "II Neoplasms (C00-D49)",
    "III": "III Blood and immunity (D50-D89)",
    "IV": "IV Endocrine and metabolic (E00-E89)",
    "V": "V Mental and behavioral (F01-F99)",
    "VI": "VI Nervous system (G00-G99)",
    "VII": "VII Eye (H00-H59)",
    "VIII": "VIII Ear (H60-H95)",
    "IX": "IX Circulatory (I00-I99)",
    "X": "X Respiratory (J00-J99)",
    "XI": "XI Digestive (K00-K95)",
    "XII": "XII Skin (L00-L99)",
    "XIII": "XIII Musculoskeletal (M00-M99)",
    "XIV": "XIV Genitourinary (N00-N99)",
    "XV": "XV Pregnancy and childbirth (O00-O9A)",
    "XVI": "XVI Perinatal (P00-P96)",
    "XVII": "XVII Congenital (Q00-Q99)",
    "XVIII": "XVIII Symptoms and findings (R00-R99)",
    "XIX": "XIX Injury and poisoning (S00-T88)",
    "XX": "XX External causes (V00-Y99)",
    "XXI": "XXI Factors and services (Z00-Z99)",
}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("titles", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--seed", type=int, default=2026)
    a = p.parse_args()

    chapters = read(a.titles)
    sites, test = [[] for _ in range(SITES)], []
    pools = {}
    for chapter, titles in chapters.items():
        held_out, pools[chapter] = hold_out(titles, f"{a.seed}/test/{chapter}")
        test += [(code, title, chapter) for code, _, title in held_out]
    attempt, dealt = deal_until_fair({c: len(p) for c, p in pools.items()}, a.seed)
    for chapter, counts in dealt.items():
        rest = iter(pools[chapter])
        for site, count in zip(sites, counts):
            site += [(code, title, chapter) for code, _, title in (next(rest) for _ in range(count))]

    a.out.mkdir(parents=True, exist_ok=True)
    for number, site in enumerate(sites, 1):
        write(a.out / f"site-{number}.csv", shuffled(site, f"{a.seed}/order/{number}"))
    write(a.out / "pooled.csv", shuffled(sum(sites, []), f"{a.seed}/order/pooled"))
    # Shuffled, so that the first thousand, which the evaluator uses between rounds, are of all chapters.
    write(a.out / "test.csv", shuffled(test, f"{a.seed}/order/test"))
    replace(a.out / "labels.txt", "".join(label + "\n" for label in LABELS.values()))
    summary = json.dumps({
        "seed": a.seed, "attempt": attempt, "train": sum(map(len, sites)), "test": len(test),
        "sites": [len(s) for s in sites],
        "titles_per_chapter_and_site": {LABELS[c]: counts for c, counts in dealt.items()},
        "test_titles_per_chapter": {LABELS[c]: n for c, n in Counter(t[2] for t in test).items()},
    }, indent=1)
    replace(a.out / "split.json", re.sub(r"(?<=[\[\d,])\s+(?=[\d\]])", " ", summary) + "\n")  # number lists on one line


def read(path):
    """{chapter: [(code, category, title)]}, each title once."""
    chapters, seen = {c: [] for c in LABELS}, set()
    with open(path, newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            if row["chapter"] in chapters and row["title"].lower() not in seen:
                seen.add(row["title"].lower())
                chapters[row["chapter"]].append((row["code"], row["category"], row["title"]))
    return chapters


def hold_out(titles, seed):
    """(test titles, training titles) of one chapter; whole categories are kept from training until there are enough."""
    sizes = Counter(category for _, category, _ in titles)
    held_out, reached = set(), 0
    for (category,) in shuffled([(c,) for c in sizes], seed):
        if len(held_out) * HELD_OUT >= len(sizes) and reached >= TEST_PER_CHAPTER:
            break
        held_out.add(category)
        reached += sizes[category]
    drawn = shuffled(titles, seed + "/draw")
    test = [t for t in drawn if t[1] in held_out]
    train = [t for t in drawn if t[1] not in held_out]
    return test[:TEST_PER_CHAPTER], train[:TRAIN_PER_CHAPTER]


def deal_until_fair(sizes, seed):
    """The first attempt at {chapter: titles for each site} that leaves every site enough."""
    for attempt in range(10_000):
        dealt = {c: deal(n, f"{seed}/deal/{attempt}/{c}") for c, n in sizes.items()}
        if all(sum(counts[s] for counts in dealt.values()) >= SITE_MINIMUM for s in range(SITES)):
            return attempt, dealt
    raise SystemExit("no split of this seed meets the conditions; choose another seed")


def deal(titles, seed):
    """Titles for each site. A Pólya urn that starts with weight 0.3 a site gives each draw the probability it has under
    shares drawn from Dirichlet(0.3), and needs integers only: (0.3 + n_s) / (1.5 + n) = (3 + 10 n_s) / (15 + 10 n)."""
    for redraw in range(10_000):
        counts = [0] * SITES
        for n in range(titles):
            ticket = number(f"{seed}/{redraw}/{n}") % (3 * SITES + 10 * n)  # 256 bits: the bias of % is nothing
            site = 0
            while ticket >= 3 + 10 * counts[site]:
                ticket -= 3 + 10 * counts[site]
                site += 1
            counts[site] += 1
        if sum(c >= PRESENT for c in counts) >= 2:
            return counts
    raise SystemExit("a chapter never reached two sites")


def number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def shuffled(rows, seed):
    """In the order of their salted hashes; rows begin with a unique string."""
    return sorted(rows, key=lambda row: number(f"{seed}/{row[0]}"))


def write(path, rows):
    part = path.with_suffix(".part")
    with open(part, "w", newline="", encoding="utf-8") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["patient_id", "text", "label"])
        table.writerows((code, title, LABELS[chapter]) for code, title, chapter in rows)
    os.replace(part, path)


def replace(path, text):
    path.with_suffix(".part").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".part"), path)


if __name__ == "__main__":
    main()
