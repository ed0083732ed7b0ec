"""What the federation is compared with: each organization alone, and all data in one place. No noise, tuned alike."""
import json
from concurrent.futures import ThreadPoolExecutor

from consortium import SITES, call

# Epochs and Adam's step size, found on a validation split of the training titles for all six alike.
RECIPE = {"alone": (4, 0.01), "pooled": (5, 0.003)}
RECIPE_QUICK = {"alone": (1, 0.01), "pooled": (1, 0.01)}


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
    call(consortium.program("consilium-client"), "baseline", "--config", config(consortium), "--data", data,
         "--epochs", epochs, "--learning-rate", rate, "--out", out)
    return evaluate(consortium, out, mix_of=data)


def evaluate(consortium, result, mix_of=None, job="lora"):
    """Scores a result on the whole test set; and weighted by another file's mix of labels, if one is named."""
    mix = ["--mix-of", mix_of] if mix_of else []
    scores = call(consortium.program("consilium-client"), "evaluate", "--config", config(consortium, job),
                  "--adapter", result, "--data", consortium.data / "test.csv", *mix, "--json")
    return json.loads(scores)


def config(consortium, job="lora"):
    return consortium.folder / f"job-{job}" / f"{SITES[0]}.toml"
