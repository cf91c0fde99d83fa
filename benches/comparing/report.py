"""Figures as people read them: a Markdown table with the machine's facts, and a chart of ratios."""
import json
import pathlib
import statistics

OURS = "cursus"
# Begins the names of what `cursus-load --floor` adds.
FLOOR = "floor "
# Metrics that say nothing about which server is better.
LEFT_OUT = ("volume", "processes", "Pss before", "Pss with all")


def read(paths):
    """Earlier runs as one; machine and arguments are the first one's."""
    first, *others = [json.loads(pathlib.Path(path).read_text()) for path in paths]
    samples = {(entry["workload"], entry["metric"]): entry for entry in first["samples"]}
    cpu = first["cpu_seconds_wall_client_server"]
    for other in others:
        for peer, peer_facts in other["peers"].items():
            first["peers"].setdefault(peer, peer_facts)
        first["notes"] += other["notes"]
        first["failures"] += other["failures"]
        for entry in other["samples"]:
            known = samples.setdefault((entry["workload"], entry["metric"]), entry)
            if known is not entry:
                for peer, values in entry["peers"].items():
                    known["peers"].setdefault(peer, []).extend(values)
        for workload, peers in other["cpu_seconds_wall_client_server"].items():
            for peer, runs in peers.items():
                cpu.setdefault(workload, {}).setdefault(peer, []).extend(runs)
    return {**first, "samples": list(samples.values())}


def markdown(results):
    names = list(results["peers"])
    lines = facts(results)
    lines += ["", "| workload | metric | " + " | ".join(names) + " |",
              "|---|---|" + "---:|" * len(names)]
    disk = []
    for entry in results["samples"]:
        if entry["workload"] == "disk":
            values = entry["peers"]["disk itself"]
            disk.append(f"{entry['metric']}: {number(statistics.median(values))}/s")
            continue
        if shown(entry):
            cells = [cell(entry, name, best_peer(entry)) for name in names]
            lines.append(f"| {entry['workload']} | {entry['metric']}, {entry['unit'] or 'count'} | "
                         + " | ".join(cells) + " |")
    lines += ["", "Median (least–most of the rounds); **ratio** of Cursus to the best of the others "
              "with safe settings, above 1 is better.", ""]
    lines += ["CPU seconds of client / server over the timed sections:", "",
              "| workload | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for workload, peers in results["cpu_seconds_wall_client_server"].items():
        if workload in ("disk", "fill"):
            continue
        cells = []
        for name in names:
            runs = peers.get(name, [])
            cells.append(f"{sum(run[1] for run in runs):.2f} / "
                         f"{sum(run[2] or 0 for run in runs):.2f} of "
                         f"{sum(run[0] for run in runs):.2f}" if runs else "–")
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    if disk:
        lines += ["", "The disk itself, files created, written, synced and renamed: "
                  + "; ".join(disk)]
        lines += against_disk(results)
    lines += against_memory(results)
    for title, what in (("Notes", results["notes"]), ("Failures", results["failures"])):
        if what:
            lines += ["", f"{title}:"] + [f"- {one}" for one in what]
    return "\n".join(lines)


def against_disk(results):
    """Deliveries of Cursus as shares of what as many threads do that only make files."""
    floors = {entry["metric"]: statistics.median(entry["peers"]["disk itself"])
              for entry in results["samples"] if entry["workload"] == "disk"}
    shares = []
    for entry in results["samples"]:
        kind, _, connections = entry["workload"].partition(" ")
        floor = floors.get(f"files, {connections} threads")
        if kind not in ("lmtp", "append") or not floor or entry["unit"] != "1/s":
            continue
        ours = [f"{name} {statistics.median(values) / floor:.0%}"
                for name, values in entry["peers"].items() if name.startswith(OURS) and values]
        shares.append(f"{entry['workload']}: {', '.join(ours)}")
    text = "Of the files that as many threads make there, messages: " + "; ".join(shares)
    return ["", text] if shares else []


def against_memory(results):
    """Answers of Cursus beside the same ones sent from memory to the same client."""
    medians = {(entry["workload"], entry["metric"], name): statistics.median(values)
               for entry in results["samples"] for name, values in entry["peers"].items() if values}
    parts = []
    for entry in results["samples"]:
        workload, metric = entry["workload"], entry["metric"]
        if not metric.startswith(FLOOR) or any(part in metric for part in LEFT_OUT) or "rate" in metric:
            continue
        ours = []
        for name in entry["peers"]:
            took, floor = (medians.get((workload, one, name)) for one in (metric[len(FLOOR):], metric))
            if took and floor:
                # Of a rate more is better, of a time less.
                share = took / floor if entry["better"] == "higher" else floor / took
                ours.append(f"{name} {share:.0%} of {number(floor)} {entry['unit']}")
        if ours:
            parts.append(f"{workload}, {metric[len(FLOOR):]}: {', '.join(ours)}")
    if not parts:
        return []
    return ["", "How near that is to the same answers sent from memory (`cursus-load --floor`): "
            + "; ".join(parts)]


def facts(results):
    machine, args = results["machine"], results["arguments"]
    lines = [f"{machine['processor']}, {machine['cpus']} processors, {machine['memory_mib']} MiB; "
             f"Linux {machine['kernel']}; {machine['mount']}; load before {machine['load_before']}. "
             f"Client and servers share the machine. {args['messages']:,} messages in the large "
             f"mailbox, {args['rounds']} rounds in turns.", ""]
    for name, peer in results["peers"].items():
        lines.append(f"- `{name}`: {peer['name']} {peer['version']}; {peer['settings']}")
    return lines


def shown(entry):
    return (entry["workload"] != "fill" and not entry["metric"].startswith(FLOOR)
            and not any(part in entry["metric"] for part in LEFT_OUT))


def best_peer(entry):
    """The best median of the other servers that sync what they acknowledge; None without any."""
    values = [statistics.median(values) for name, values in entry["peers"].items()
              if not name.startswith(OURS) and "+unsafe" not in name and values]
    if not values:
        return None
    return max(values) if entry["better"] == "higher" else min(values)


def ratio(entry, name, base):
    values = entry["peers"].get(name)
    if not values or not base or not name.startswith(OURS):
        return None
    middle = statistics.median(values)
    if middle <= 0 or base <= 0:
        return None
    return middle / base if entry["better"] == "higher" else base / middle


def cell(entry, name, base):
    values = entry["peers"].get(name)
    if not values:
        return "–"
    text = number(statistics.median(values))
    if len(values) > 1:
        text += f" ({number(min(values))}–{number(max(values))})"
    found = ratio(entry, name, base)
    return text if found is None else f"{text} **{found:.1f}×**"


def number(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def plot(results, path):
    """A bar for each row and layout of ours: the ratio to the best other server, on a log scale."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("compare: --plot needs matplotlib (Debian: python3-matplotlib)") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot
    ours = [name for name in results["peers"] if name.startswith(OURS)]
    rows = []
    for entry in results["samples"]:
        if entry["workload"] == "disk" or not shown(entry) or "p99" in entry["metric"]:
            continue
        found = {name: ratio(entry, name, best_peer(entry)) for name in ours}
        if any(found.values()):
            rows.append((f"{entry['workload']}: {entry['metric']}", found))
    if not rows:
        raise SystemExit("compare: nothing to plot: no row has both Cursus and another server")
    height = 0.8 / max(len(ours), 1)
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.34 * len(rows)))
    for place, name in enumerate(ours):
        values = [found.get(name) or 1 for _, found in rows]
        at = [row + place * height for row in range(len(rows))]
        axes.barh(at, [value - 1 for value in values], left=1, height=height, label=name)
        for y, value in zip(at, values):
            axes.text(value * 1.03 if value >= 1 else value / 1.03, y, f"{value:.1f}×",
                      va="center", ha="left" if value >= 1 else "right", fontsize=6)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(rows))],
                    [label for label, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("times the best other server in the same run (right of 1: Cursus is ahead)")
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
