"""The learning curve as an SVG: accuracy by round, whose view it is, and ε beside it."""
WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 64, 48, 96


def learning_curve(federated, head_only, scores):
    jobs = [("LoRA and head", federated, "#1b6ca8"), ("head only", head_only, "#c4572b")]
    last = max(row["round"] for _, job, _ in jobs for row in job.rounds)
    epsilons = [row["spent"]["epsilon"] for row in federated.rounds if row.get("spent")]
    top = max(epsilons) * 1.15

    def x(round_):
        return LEFT + (WIDTH - LEFT - RIGHT) * round_ / last

    def y(accuracy):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(accuracy, 0.0), 0.85) / 0.85

    def y_epsilon(epsilon):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * epsilon / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 24, "Accuracy by round: five organizations, one adapter, nobody's update seen", size=16),
    ]
    for tenth in range(0, 9):
        level = y(tenth / 10)
        parts.append(f'<path d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(text(LEFT - 8, level + 4, f".{tenth}", anchor="end"))
    for round_ in range(0, last + 1, max(1, last // 8)):
        parts.append(text(x(round_), HEIGHT - BOTTOM + 20, str(round_), anchor="middle"))
    for name, level, colour in [("pooled, no noise", scores["pooled"], "#555"), ("best alone", max(scores["alone"]), "#999")]:
        parts.append(f'<path d="M{LEFT} {y(level):.1f}H{WIDTH - RIGHT}" stroke="{colour}" stroke-dasharray="2 4"/>')
        parts.append(text(WIDTH - RIGHT - 4, y(level) - 5, f"{name} {level:.2f}", anchor="end", fill=colour))
    for name, job, colour in jobs:
        noisy, test = ([(row["round"], row[view]["accuracy"]) for row in job.rounds if row[view]] for view in ("train", "test"))
        parts.append(line([(x(r), y(a)) for r, a in noisy], colour, width=1, opacity=0.45))
        parts.append(line([(x(r), y(a)) for r, a in test], colour, width=2.5))
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(a):.1f}" r="3.5" fill="{colour}"/>' for r, a in test]
    parts.append(line([(x(r["round"]), y_epsilon(r["spent"]["epsilon"])) for r in federated.rounds], "#5a8f3d", dash="6 4"))
    for fraction in (0.25, 0.5, 0.75, 1.0):
        parts.append(text(WIDTH - RIGHT + 8, y_epsilon(top * fraction / 1.15) + 4, f"ε {top * fraction / 1.15:.1f}", fill="#5a8f3d"))
    if federated.killed_round:
        at = x(federated.killed_round)
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#a33" stroke-dasharray="3 3"/>')
        parts.append(text(at + 4, TOP + 12, f"site-4 killed in round {federated.killed_round}", fill="#a33"))
    legend = [
        ("#1b6ca8", "LoRA and head: dots, the evaluator's test set; thin, all training lots in the noisy sum"),
        ("#c4572b", "head only, federated at the same ε"),
        ("#5a8f3d", "ε spent (right), δ = %g, against the coordinator and one colluder" % federated.rounds[-1]["spent"]["delta"]),
    ]
    for index, (colour, words) in enumerate(legend):
        at = HEIGHT - 52 + 18 * index
        parts.append(f'<path d="M{LEFT} {at - 4}h24" stroke="{colour}" stroke-width="3"/>')
        parts.append(text(LEFT + 32, at, words))
    parts.append("</svg>\n")
    return "\n".join(parts)


def text(x, y, words, anchor="start", size=13, fill="#222"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{words}</text>'


def line(points, colour, width=2.0, opacity=1.0, dash=""):
    if not points:
        return ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"{dashed}/>'
