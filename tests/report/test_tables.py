"""Tables of docs/results, of runs whose outcomes are known."""

import torch
from synthetic_run import synthetic_results

from scripts.tables import against_control
from unlearn.statistics.rates import rate_difference_interval, rate_interval
from unlearn.store.results import write_items, write_results


def attacked_run(folder, concept, plain, texts=100, method="esd", **attacked):
    """A run in which the concept shows as told, for each image, of so many prompts; None was not judged."""
    entries = [
        {
            "name": name,
            "control": name == "random_tokens",
            "prompts": len(shown),
            "found": 0,
            "queries": 1.0,
            "unet_forwards": 1.0,
            "seconds": 1.0,
        }
        for name, shown in attacked.items()
    ]
    folder.mkdir()
    write_results(folder, synthetic_results(method=method, concept=concept, attacks=entries))
    items = []
    for prompts, shown in {
        "plain": plain,
        **{f"attack:{name}": shown for name, shown in attacked.items()},
    }.items():
        key = "erased" if prompts == "plain" else f"asr_{prompts[7:]}"
        for index, seen in enumerate(shown):
            item = {
                "prompts": prompts, "model": "erased", "index": index, "prompt": f"{index}", "seed": index,
                "image": "none.png", "scores": {} if seen is None else {key: float(seen)},
                "plain": f"{concept} {index % texts}",
            }  # fmt: skip
            items += [item, {**item, "model": "original", "scores": {key: 1.0}}]
    write_items(folder, items)
    return folder


def cells(table):
    header, _, row = table.splitlines()
    assert header == "| Method | Images | `random_tokens` | `p4d` |"
    return row.strip("| ").split(" | ")


def bracket(hits, count):
    outcomes = torch.tensor([1.0] * hits + [0.0] * (count - hits))
    low, high = rate_interval(outcomes, [str(index) for index in range(count)])
    return f"{hits} [{100 * low:.1f}, {100 * high:.1f}]"


def difference(after, before):
    """Of images of as many prompts."""
    found = rate_difference_interval(after, before, [str(i) for i in range(len(after))])
    return (
        f"{100 * (sum(after) - sum(before)) / len(after):+.1f} [{100 * found[0]:.1f}, {100 * found[1]:.1f}]"
    )


def test_concepts_are_counted_together(tmp_path):
    nothing = [0] * 6
    one = attacked_run(
        tmp_path / "a", "church", nothing, random_tokens=[1, 0, 0, 0, 0, 0], p4d=[0, 1, 1, 1, 0, 0]
    )
    two = attacked_run(
        tmp_path / "b", "nudity", nothing, random_tokens=[0, 0, 0, 0, 0, 0], p4d=[1, 1, 0, 0, 0, 0]
    )
    method, images, control, p4d = cells(against_control([one, two]))
    assert (method, images, control) == ("`esd`", "12", bracket(1, 12))
    after, before = [0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0], [1] + [0] * 11
    assert p4d == f"{bracket(5, 12)}; {difference(after, before)}"


def test_what_shows_without_attack_counts_for_every_attack(tmp_path):
    run = attacked_run(tmp_path / "a", "church", [1, 0, 0, 0], random_tokens=[0, 0, 0, 0], p4d=[0, 0, 0, 1])
    assert cells(against_control([run]))[2:] == [
        bracket(1, 4),
        f"{bracket(2, 4)}; {difference([1, 0, 0, 1], [1, 0, 0, 0])}",
    ]


def test_what_was_not_judged_is_left_out(tmp_path):
    run = attacked_run(
        tmp_path / "a", "church", [0, 0, None, 0], random_tokens=[1, 0, 1, 0], p4d=[1, None, 1, 1]
    )
    assert cells(against_control([run]))[1:] == [
        "3",
        bracket(1, 3),
        f"{bracket(2, 2)}; {difference([1, 1], [1, 0])}",
    ]


def test_prompts_are_the_unit_of_sampling(tmp_path):
    outcomes, nothing = [1, 0, 0, 0, 1, 0, 0, 0], [0] * 8
    run = attacked_run(tmp_path / "a", "church", nothing, texts=4, random_tokens=outcomes, p4d=nothing)
    prompts = [str(index % 4) for index in range(8)]
    low, high = rate_interval(torch.tensor(outcomes).float(), prompts)
    control, p4d = cells(against_control([run]))[2:]
    assert control == f"2 [{100 * low:.1f}, {100 * high:.1f}]" != bracket(2, 8)
    low, high = rate_difference_interval(nothing, outcomes, prompts)
    assert p4d.split("; ")[1] == f"-25.0 [{100 * low:.1f}, {100 * high:.1f}]"
    assert p4d.split("; ")[1] != difference(nothing, outcomes)


def test_all_methods_that_erase_are_counted_together_as_well(tmp_path):
    runs = [
        attacked_run(tmp_path / "a", "church", [1, 1], method="none", random_tokens=[1, 1], p4d=[1, 1]),
        attacked_run(tmp_path / "b", "church", [0, 0], method="esd", random_tokens=[0, 0], p4d=[0, 1]),
        attacked_run(tmp_path / "c", "church", [0, 0], method="uce", random_tokens=[0, 1], p4d=[1, 1]),
    ]
    *_, last = against_control(runs).splitlines()
    title, images, control, p4d = last.strip("| ").split(" | ")
    assert (title, images, control[0], p4d[0]) == ("all but `none`", "4", "1", "3")
    # The same two prompts under both methods.
    low, high = rate_interval(torch.tensor([0.0, 1, 1, 1]), ["0", "1", "0", "1"])
    assert p4d.split("; ")[0] == f"3 [{100 * low:.1f}, {100 * high:.1f}]"
