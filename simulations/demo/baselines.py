"""What the federation is compared with: each organization alone, and all data in one place. No noise, tuned alike."""
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from consortium import SITES, call

# Epochs and Adam's step size, found on a validation split of the training titles for all six alike.
RECIPE = {"alone": (4, 0.01), "pooled": (5, 0.003)}
RECIPE_QUICK = {"alone": (1, 0.01), "pooled": (1, 0.01)}
# A quick run has no accuracy to reach: it trains its baselines on so many titles each, and scores on so many.
TITLES_QUICK, SCORED_QUICK = 400, 300


def baselines(consortium):
    """Trains two at a time, one thread each, as the federation does."""
    with ThreadPoolExecutor(2) as pool:
        pooled = pool.submit(train, consortium, "pooled", consortium.data / "pooled.csv", "pooled")
        alone = [pool.submit(train, consortium, site, consortium.data / f"{site}.csv", "alone") for site in SITES]
        return {
            "alone": [one.result()["accuracy"] for one in alone],
            "alone_own_mix": [one.result()["mix_accuracy"] for one in alone],
            "pooled": pooled.result()["accuracy"],
        }


def train(consortium, name, data, kind):
    epochs, rate = (RECIPE_QUICK if consortium.quick else RECIPE)[kind]
    out = consortium.folder / "baselines" / name
    trained_on = first_titles(data, TITLES_QUICK, out) if consortium.quick else data
    call(consortium.program("consilium-client"), "baseline", "--config", config(consortium), "--data", trained_on,
         "--epochs", epochs, "--learning-rate", rate, "--out", out)
    return evaluate(consortium, out, mix_of=data)


def first_titles(data, count, out):
    """A file of a data file's first titles; they stand in no order there."""
    part = out.with_suffix(".csv")
    part.parent.mkdir(parents=True, exist_ok=True)
    with data.open() as lines:
        part.write_text("".join(islice(lines, count + 1)))
    return part


def evaluate(consortium, result, mix_of=None, job="lora"):
    """Scores a result on the whole test set (a quick run: on a part of it); and weighted by another file's mix of labels,
    if one is named."""
    mix = ["--mix-of", mix_of] if mix_of else []
    limit = ["--limit", SCORED_QUICK] if consortium.quick else []
    scores = call(consortium.program("consilium-client"), "evaluate", "--config", config(consortium, job),
                  "--adapter", result, "--data", consortium.data / "test.csv", *mix, *limit, "--json")
    return json.loads(scores)


def config(consortium, job="lora"):
    return consortium.folder / f"job-{job}" / f"{SITES[0]}.toml"
