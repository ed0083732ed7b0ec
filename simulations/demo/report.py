"""report.json and the printed table: every figure measured in this run."""
import json

from consortium import SITES


def write_report(path, federated, head_only, scores, total_seconds):
    released = [row for row in federated.rounds if row["outcome"] == "released"]
    spent = federated.rounds[-1]["spent"]
    plan = federated.consortium.plan_file("lora").read_text()
    parameters = trained_parameters(plan)
    uploads = sum(row["upload_bytes"] for row in released)
    vectors = sum(len(row["survivors"]) for row in released)
    report = {
        "accuracy": {
            "federated": scores["federated"]["accuracy"],
            "federated_macro": scores["federated"]["macro_accuracy"],
            "alone": scores["alone"],
            "alone_own_mix": scores["alone_own_mix"],
            "pooled": scores["pooled"],
            "head_only_federated": scores["head_only_federated"]["accuracy"],
        },
        "epsilon": spent["epsilon"],
        "epsilon_local": spent["epsilon_local"],
        "epsilon_head_only": head_only.rounds[-1]["spent"]["epsilon"],
        "delta": spent["delta"],
        "rounds": len(released),
        "clients": len(SITES),
        "killed_round": federated.killed_round,
        "survivors": [len(row["survivors"]) for row in released],
        "upload_bytes_per_parameter": uploads / vectors / parameters,
        "trained_parameters": parameters,
        "coordinator_rss_mb": federated.coordinator_rss_mb,
        "seconds": {
            "total": total_seconds,
            "federated": federated.seconds(),
            "protocol": federated.protocol_seconds(),
            "head_only": head_only.seconds(),
        },
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def trained_parameters(plan):
    """Coordinates that are trained, from the plan's own list of tensors."""
    total = 0
    for tensor in plan.split("[[adapter.tensor]]")[1:]:
        fields = dict(line.split(" = ", 1) for line in tensor.strip().splitlines() if " = " in line)
        if fields.get("trained") == "true":
            product = 1
            for axis in json.loads(shape(tensor)):
                product *= axis
            total += product
    return total


def shape(tensor):
    """The shape's list, on one line or several."""
    after = tensor.split("shape = ", 1)[1]
    return after[: after.index("]") + 1].replace(",\n]", "\n]")


def print_table(report, scores, federated, out):
    accuracy, seconds = report["accuracy"], report["seconds"]
    row = "  {:<34}{:>14}{:>12}".format
    print("\n== Accuracy on 21 chapters, titles from categories that nobody trained on "
          f"({scores['federated']['examples']} titles)\n")
    print(row("", "all chapters", "its own mix"))
    for site, everywhere, own in zip(SITES, accuracy["alone"], accuracy["alone_own_mix"]):
        print(row(f"{site} alone, no noise", f"{everywhere:.3f}", f"{own:.3f}"))
    print(row(f"federated, ε = {report['epsilon']:.2f}", f"{accuracy['federated']:.3f}", ""))
    print(row(f"head only, federated, ε = {report['epsilon_head_only']:.2f}", f"{accuracy['head_only_federated']:.3f}", ""))
    print(row("pooled, no noise", f"{accuracy['pooled']:.3f}", ""))
    print(f"""
  Privacy unit: patient (here a title stands for a patient), δ = {report['delta']:g}
    ε = {report['epsilon']:.2f} against the coordinator together with one colluding organization
    ε = {report['epsilon_local']:.2f} against everybody else together
  {report['rounds']} rounds released; {federated.killed_round} without site-4, which was killed after it had dealt its shares,
  started again and caught up; survivors a round: {' '.join(str(n) for n in report['survivors'])}
  {report['trained_parameters']} trained parameters, {report['upload_bytes_per_parameter']:.2f} bytes of upload each a round; \
coordinator's peak memory {report['coordinator_rss_mb']:.0f} MB
  {seconds['federated']:.0f} s federated, of which {seconds['protocol']:.1f} s protocol \
({100 * seconds['protocol'] / seconds['federated']:.0f} %); {seconds['total']:.0f} s in all

  {out}/
    adapter/ head.safetensors labels.txt   the result (peft's format), load_adapter.py loads it
    manifest.json manifest.json.sig        what it was made of, signed
    learning-curve.svg report.json         this run""")
