"""What may not get lost: operations counted exactly, and host time as ratios within one run, with room to spare.

Times are CPU times of this process, the variants in turn, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.tensorboard import FileWriter

from benchmarks import __main__ as command
from benchmarks import cache_file, engine_overhead, goals, host_cost, loops
from benchmarks import pipelines as ways
from benchmarks.measure import (
    Cost,
    CountOperations,
    excess,
    in_turn,
    operations_of_second,
    timed,
    times_cheaper,
    tree_cpu_seconds,
)
from benchmarks.report import Result, fill, joined, sections_of
from benchmarks.validation_overhead import centred
from benchmarks.workbench import (
    BATCH_SIZE,
    KEYS,
    Bench,
    Pictures,
    batches_on_device,
    monai_decode,
    probes,
    small_network,
)
from monai_ext.data import DecodeImaged, DeviceLoader, lesion_items, write_lesion_phantoms
from monai_ext.handlers.training import tensorboard

CPU = torch.device("cpu")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(CPU, tmp_path, workers=0, rounds=3, quick=True)


def epoch_cost(epoch: ways.Pipeline, batches: int) -> partial:
    """Cost of one of the `batches` of an epoch."""
    return partial(lambda: timed(partial(ways.exhaust, epoch), CPU) / batches)


@pytest.mark.parametrize(("colours", "limit"), [((), 45), ((ways.COLOUR,), 120)])
def test_a_batch_is_two_index_selects_and_its_augmentation(bench: Bench, colours: tuple, limit: int) -> None:
    loader = ways.ours(bench, probes(3 * BATCH_SIZE), *colours)
    count = operations_of_second(loader)
    augment = loader.transform
    batch = loader.dataset.batch(range(BATCH_SIZE))
    with CountOperations() as augmentation:
        parameters = augment.draw(BATCH_SIZE)
        augmentation.names.clear()
        augment.apply(batch, parameters)
    assert Counter(count.names) - Counter(augmentation.names) == Counter({"aten::index_select": 2})
    assert len(count.names) == len(augmentation.names) + 2 <= limit
    assert not count.waiting


def test_operations_of_a_batch_do_not_depend_on_its_size(bench: Bench) -> None:
    loader = ways.ours(bench, probes(3 * BATCH_SIZE), ways.COLOUR)
    small = DeviceLoader(loader.dataset, 4, shuffle=True, transform=loader.transform)
    assert operations_of_second(small).names == operations_of_second(loader).names


def test_monais_pipelines_take_more_than_ten_times_the_operations(bench: Bench) -> None:
    counted = {name: len(count.names) for name, count in host_cost.counts(bench).items()}
    assert counted[ways.FAST] > 10 * counted[ways.OURS_COLOUR]
    assert counted[host_cost.DEFAULT] > 20 * counted[ways.OURS_COLOUR]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_of_an_epoch_never_make_the_host_wait() -> None:
    loader = ways.ours(Bench(torch.device("cuda"), Path()), probes(4 * BATCH_SIZE), ways.COLOUR)
    iterator = iter(loader)
    next(iterator)  # the copy of order and draw, and what is kept
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(iterator)) == 3
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_host_time_of_a_cached_batch_is_a_small_part_of_monais(bench: Bench) -> None:
    few, many = 2, 32  # ours need more of them, for the clock and for the draw, which is once an epoch
    theirs = host_cost.host_pipelines(bench, images=few * BATCH_SIZE)
    costs = in_turn(
        {
            ways.OURS: epoch_cost(ways.ours(bench, probes(many * BATCH_SIZE)).__iter__, many),
            ways.FAST: epoch_cost(theirs[ways.FAST], few),
            host_cost.DEFAULT: epoch_cost(theirs[host_cost.DEFAULT], few),
        },
        rounds=5,
    )
    assert times_cheaper(costs[ways.OURS], costs[ways.FAST], "cpu") > 25
    assert times_cheaper(costs[ways.OURS], costs[host_cost.DEFAULT], "cpu") > 100


def test_cost_of_an_epoch_grows_with_the_number_of_pictures_alone(bench: Bench) -> None:
    loaders = {count: ways.ours(bench, probes(count)) for count in (512, 2048)}
    costs = in_turn({n: epoch_cost(loader.__iter__, n) for n, loader in loaders.items()}, rounds=5)
    assert times_cheaper(costs[512], costs[2048], "cpu") < 1.5
    assert loaders[2048].dataset.nbytes == 4 * loaders[512].dataset.nbytes


def training_operations(iterations: int, folder: Path | None) -> CountOperations:
    """Operations of an epoch: of our trainer with its handlers writing to `folder`, of the bare loop without."""
    batches = batches_on_device(CPU, 1, (8, 8)) * iterations
    parts = loops.Parts(small_network(), CPU)
    if folder is None:
        with CountOperations() as count:
            loops.bare_training(parts, batches)
    else:
        trainer = loops.our_trainer(parts, batches, epochs=1, folder=folder, precision="fp32")
        with CountOperations() as count:
            trainer.run()
    return count


def test_an_iteration_of_the_trainer_adds_few_operations_to_the_step_and_no_wait(tmp_path: Path) -> None:
    # The 13th iteration less the 12th: what happens once an epoch, and the readings every 10, fall out.
    names = [training_operations(n, tmp_path / f"{n}").names for n in (12, 13)]
    bare = [training_operations(n, None).names for n in (12, 13)]
    iteration, step = Counter(names[1]) - Counter(names[0]), Counter(bare[1]) - Counter(bare[0])
    added = iteration - step
    assert added == Counter({"aten::add.Tensor": 2}), added  # two sums of the loss
    assert not [name for name in added if "local_scalar" in name], added


def test_tensorboard_waits_for_its_file_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    flush = FileWriter.flush
    monkeypatch.setattr(FileWriter, "flush", lambda writer: waits.append(1) or flush(writer))
    monkeypatch.setattr(tensorboard, "FLUSH_SECONDS", 1000)
    batches = batches_on_device(CPU, 1, (8, 8)) * 20
    loops.our_trainer(loops.Parts(small_network(), CPU), batches, epochs=2, folder=tmp_path, precision="fp32").run()
    assert len(waits) == 2  # of the four times that the loss was logged the first, and the end
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("train_loss")] == [10, 20, 30, 40]


def test_trainer_with_handlers_costs_a_tenth_of_a_typical_bundle_beyond_the_step() -> None:
    trainers = engine_overhead.trainers(CPU, iterations=20)
    names = (engine_overhead.BARE, engine_overhead.OUR_BUNDLE, engine_overhead.USUAL_BUNDLE)
    costs = in_turn({name: trainers[name] for name in names}, rounds=3, warmups=0)
    bare, ours, usual = (costs[name] for name in names)
    assert excess(ours, bare, "cpu") < excess(usual, bare, "cpu") / 10


def test_validation_costs_a_fifth_of_monais_beyond_the_forward_pass_at_the_same_dice() -> None:
    batches = batches_on_device(CPU, 4, (8, 8))
    network = centred(small_network(), batches).to(memory_format=torch.channels_last)
    ours, usual = (build(CPU, batches, network) for build in (loops.our_evaluator, loops.usual_evaluator))
    costs = in_turn(
        {
            "bare": partial(timed, partial(loops.bare_validation, batches, network), CPU),
            "ours": partial(timed, ours.run, CPU),
            "usual": partial(timed, usual.run, CPU),
        },
        rounds=5,
    )
    assert excess(costs["ours"], costs["bare"], "cpu") < excess(costs["usual"], costs["bare"], "cpu") / 5
    ours, theirs = (evaluator.state.metrics["val_mean_dice"] for evaluator in (ours, usual))
    assert 0.1 < theirs < 0.9
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Two dozen photographs in files."""
    folder = tmp_path_factory.mktemp("photographs")
    write_lesion_phantoms(folder, count=24, size=(300, 400))
    return Pictures(lesion_items(folder), (128, 128), DecodeImaged((128, 128)), monai_decode((128, 128)))


def test_cache_takes_a_quarter_of_monais(bench: Bench, photographs: Pictures) -> None:
    ours, theirs = cache_file.build(bench, photographs), cache_file.monai_build(photographs)
    for key in KEYS:
        assert theirs[0][key].dtype == torch.float32
        assert 4 * ours[0][key].nbytes == theirs[0][key].nbytes == 4 * 128 * 128 * (3 if key == "image" else 1)
    rest = ours.nbytes / len(ours) - 4 * 128 * 128  # original_size, two int64, and the numbers of a first look
    assert 2 * 8 <= rest < 256


def test_reading_the_cache_takes_a_tenth_of_decoding(bench: Bench, photographs: Pictures, tmp_path: Path) -> None:
    cache_file.build(bench, photographs, cache_dir=str(tmp_path))
    variants = cache_file.builders(bench, photographs, str(tmp_path))
    names = (cache_file.BUILD, cache_file.RELOAD)
    costs = in_turn({name: partial(timed, variants[name], CPU) for name in names}, rounds=5)
    assert times_cheaper(costs[cache_file.RELOAD], costs[cache_file.BUILD], "cpu") > 10


def test_no_tensor_stays_from_one_epoch_to_the_next(bench: Bench, tmp_path: Path) -> None:
    alive = []

    def look() -> None:
        gc.collect()
        alive.append(sum(isinstance(thing, Tensor) for thing in gc.get_objects()))

    loader = ways.ours(bench, probes(2 * BATCH_SIZE))
    trainer = loops.our_trainer(loops.Parts(small_network(), CPU), loader, epochs=6, folder=tmp_path, precision="fp32")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
    trainer.run()
    assert alive[1] == alive[-1], alive


def test_all_pipelines_give_batches_of_one_kind(bench: Bench, tmp_path: Path) -> None:
    write_lesion_phantoms(tmp_path, count=BATCH_SIZE, size=(64, 64))
    pictures = Pictures(lesion_items(tmp_path), (32, 32), DecodeImaged((32, 32)), monai_decode((32, 32)))
    for build in (ways.plain, ways.monai_dataset, ways.cached, ways.threaded, ways.fast_recipe, ways.ours):
        pipeline = build(bench, pictures)
        (batch,) = pipeline if isinstance(pipeline, DeviceLoader) else pipeline()
        assert {key: (batch[key].shape, batch[key].dtype) for key in KEYS} == {
            "image": (torch.Size([BATCH_SIZE, 3, 32, 32]), torch.float32),
            "label": (torch.Size([BATCH_SIZE, 1, 32, 32]), torch.float32),
        }
        assert 0.2 < batch["image"].mean() < 0.8 and batch["image"].max() <= 1.001
        assert set(batch["label"].unique().tolist()) == {0.0, 1.0}


def test_ratios_are_medians_over_rounds_of_ratios_within_a_round() -> None:
    ours, theirs = [Cost(1, 1), Cost(2, 1), Cost(4, 1)], [Cost(2, 5), Cost(6, 7), Cost(4, 6)]
    assert times_cheaper(ours, theirs, "wall") == 2  # of 2, 3 and 1
    assert excess(theirs, ours, "cpu") == 5  # of 4, 6 and 5
    assert Cost(8, 4) / 4 == Cost(2, 1)


def test_variants_take_turns_and_warm_up() -> None:
    seen = []
    variants = {name: lambda name=name: seen.append(name) or Cost(1, 1) for name in "ab"}
    assert {name: len(costs) for name, costs in in_turn(variants, rounds=2).items()} == {"a": 2, "b": 2}
    assert seen == ["b", "a", "a", "b", "b", "a"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the CPU time of a living process")
def test_cpu_time_of_workers_counts_while_they_live_and_after() -> None:
    context = multiprocessing.get_context("fork")
    go, done = context.Event(), context.Event()

    def work() -> None:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        done.set()
        go.wait()

    before = tree_cpu_seconds()
    worker = context.Process(target=work)
    worker.start()
    done.wait()
    living = tree_cpu_seconds() - before
    go.set()
    worker.join()
    assert living > 0.1
    assert tree_cpu_seconds() - before >= living - 0.02


def test_operations_that_wait_are_told_apart() -> None:
    values = torch.ones(3)
    with CountOperations() as count:
        values.sum().item()
        values.nonzero()
        values.view(3, 1)
    assert len(count.names) == 3
    assert [name.split("::")[1] for name in count.waiting] == ["_local_scalar_dense", "nonzero"]


def test_goals_are_judged_by_their_side_of_the_target() -> None:
    values = {"host.fast": 60.0, "host.operations": 46.0, "step.ms_per_image": 2.0, "data.ms_per_image": 0.1}
    rows = goals.judge(goals.with_shares(values, 16), "cpu")
    verdicts = {(row["goal"], row["target"]): (row["measured"], row["verdict"]) for row in rows}
    assert verdicts["G1", ">= 50.0x"] == ("60.0x", "met")
    assert verdicts["G2", "<= 45"] == ("46", "missed")
    assert verdicts["G11", ">= 20.0x"] == ("", "not measured")
    assert verdicts["G4", "<= 3.0%"] == ("", "needs a GPU")
    (share,) = [row for row in goals.judge(goals.with_shares(values, 16), "cuda") if row["goal"] == "G4"]
    assert (share["measured"], share["verdict"]) == ("5.0%", "missed")


def test_the_command_prints_tables_and_records_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command.main(["--quick", "--rounds", "1", "--only", "validation", "--output", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "## Validation overhead" in printed and "| G8 | difference in mean Dice | <= 1e-06 |" in printed
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["machine"]["threads"] == 1 and record["machine"]["torch"] == torch.__version__
    assert record["results"]["validation"]["values"]["validation.dice_gap"] <= 1e-6
    assert {goal["verdict"] for goal in record["goals"] if goal["goal"] == "G3"} == {"not measured"}


def test_tables_are_put_into_their_place_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin cpu -->\nold\n<!-- end cpu -->\n<!-- begin cuda -->\nkept\n<!-- end cuda -->\nz\n")
    fill(page, "cpu", "new")
    fill(page, "cpu", "newer")
    expected = "a\n<!-- begin cpu -->\nnewer\n<!-- end cpu -->\n<!-- begin cuda -->\nkept\n<!-- end cuda -->\nz\n"
    assert page.read_text() == expected
    with pytest.raises(ValueError, match="page.md has no place for the tables: add the lines '<!-- begin mps -->'"):
        fill(page, "mps", "new")


def test_one_benchmark_run_again_leaves_the_results_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    results_of = {"engine.overhead_ms": 0.5, "validation.ratio": 12.0}

    def benchmark(name: str) -> Result:
        value = next(key for key in results_of if key.startswith(name))
        return Result(f"About {name}", [], {value: results_of[value]})

    monkeypatch.setattr(
        command, "BENCHMARKS", {name: lambda _, n=name: benchmark(n) for name in ("engine", "validation")}
    )
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- begin cpu -->\nold\n<!-- end cpu -->\nend\n")
    command.main(["--fill", str(page)])
    first = sections_of(page, "cpu")
    assert list(first) == ["machine", "goals", "engine", "validation"]
    assert "### About engine" in first["engine"] and "begun at a load of" in first["engine"]
    assert "0.500 ms | missed" in first["goals"] and "12.0x | met" in first["goals"]

    results_of["engine.overhead_ms"] = 0.2
    command.main(["--only", "engine", "--fill", str(page)])
    second = sections_of(page, "cpu")
    assert second["validation"] == first["validation"] and second["machine"] == first["machine"]
    assert "0.200 ms | met" in second["goals"] and "12.0x | met" in second["goals"]
    assert page.read_text().startswith("# Title\n") and page.read_text().endswith("<!-- end cpu -->\nend\n")

    page.write_text(page.read_text().replace(first["machine"], "processor Abacus"))
    with pytest.raises(SystemExit, match="page.md are of another machine, of other versions"):
        command.main(["--only", "engine", "--fill", str(page)])


def test_sections_are_taken_apart_as_they_were_joined(tmp_path: Path) -> None:
    sections = {"data": "### Data\n\n| a |", "host": "text"}
    page = tmp_path / "page.md"
    page.write_text(f"<!-- begin cuda -->\n{joined(sections)}\n<!-- end cuda -->\n")
    assert sections_of(page, "cuda") == sections


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "data,speed"], "'speed' is no benchmark: choose from data,host"),
        (["--quick", "--fill", "README.md"], "--fill takes numbers that mean something: leave out --quick"),
        (["--images", "20"], "20 photographs do not fill batches: choose a multiple of 16"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert sentence in capsys.readouterr().err
