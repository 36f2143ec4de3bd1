"""What makes the weights of each bundle, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from weights.steps import Options, Step, bundle_run, evaluation, program, training
from weights.tiles import HELD_OUT, OTHER_PARTS, places_of_parts

__all__ = ["RECIPES"]


def srgan_aerial(data: Path, output: Path, imagenet: str) -> list[Step]:
    """Tiles of 20 places. Both stages with eight places held out, scored on these; then both stages on all tiles.

    Stage two is two runs: without the adversarial term, then with it. Stage one is scored on the twelve other places as
    well, which are held out of two further trainings.
    """
    name, tiles, runs, models = "srgan_aerial", output / "tiles", output / "runs", output / "models"
    common = {"dataset_dir": tiles, "feature_weights": imagenet, "validation_fraction": 0}
    held = {**common, "test_places": list(HELD_OUT)}
    whole = {**common, "test_fraction": 0}
    drawn = {"crop_size": 124, "place_power": 0.5, "size_power": 0.75, "optimizer_name": "muon"}
    one = {**drawn, "adversarial_epochs": 0, "learning_rate": 0.004, "warm_up": 0.03, "end_loss": "psnr",
        "ema_decay": 0.998}  # fmt: skip
    long, short = ({**one, "pretrain_epochs": epochs, "val_interval": epochs // 6} for epochs in (126, 30))
    content = {**drawn, "pretrain_epochs": 0, "batch_size": 8, "adversarial_schedule": "plateau", "warm_up": 0.05,
        "ema_decay": 0.998, "adversarial_epochs": 18, "val_interval": 3, "adversarial_learning_rate": 0.003,
        "pixel_weight": 3, "adversarial_weight": 0}  # fmt: skip
    two = {**content, "adversarial_epochs": 3, "val_interval": 1, "adversarial_learning_rate": 0.0015,
        "ema_decay": 0.995, "adversarial_weight": 0.01, "r1_gamma": 0.001, "discriminator_features": 16}  # fmt: skip
    halfway = {"realism": 0.5, "adversarial_weights": runs / "held_two" / "final.pt",
        "evaluation_dir": runs / "held_one" / "evaluation_halfway"}  # fmt: skip
    mirrored = {"flips": "[[3], [2], [2, 3]]", "evaluation_dir": runs / "held_one" / "evaluation_mirrored"}

    def begun(start: str) -> Options:
        return {"init_weights": runs / start / "final.pt"}

    def scores(step: str, run: str, options: Options) -> Step:
        return evaluation(step, name, runs / run, {"ckpt_path": runs / run / "final.pt", **held, **options})

    others: list[Step] = []
    for number, parts in enumerate(OTHER_PARTS):
        run, options = runs / f"others_{number}", {**held, **long, "test_places": list(places_of_parts(*parts))}
        words = f"places of {'parts' if len(parts) > 1 else 'part'} {' and '.join(map(str, parts))} held out"
        others.append(training(f"stage one, {words}", name, run, options))
        others.append(
            evaluation(f"scores of stage one, {words}", name, run, {**options, "ckpt_path": others[-1].makes})
        )

    return [
        program("tiles of all places", "tiles", data, tiles, makes=tiles / "manifest.csv"),
        training("stage one, eight places held out", name, runs / "held_one", {**held, **long}),
        training("content, eight places held out", name, runs / "held_content",
            {**held, **content, **begun("held_one")}),
        training("stage two, eight places held out", name, runs / "held_two", {**held, **two, **begun("held_content")}),
        scores("scores of stage one", "held_one", long),
        scores("scores of stage one, mirror images averaged", "held_one", {**long, **mirrored}),
        scores("scores of stage two", "held_two", two),
        scores("scores halfway between the stages", "held_one", {**long, **halfway}),
        *others,
        training("stage one, all tiles", name, runs / "one", {**whole, **short, **begun("held_one")}),
        training("content, all tiles", name, runs / "content", {**whole, **content, **begun("one")}),
        training("stage two, all tiles", name, runs / "two", {**whole, **two, **begun("content")}),
        program("stage one as shipped", "finish", runs / "one" / "final.pt", makes=models / "model.pt"),
        program("stage two as shipped", "finish", runs / "two" / "final.pt", tiles, makes=models / "adversarial.pt"),
    ]  # fmt: skip


def bayesian_srgan_aerial(data: Path, output: Path, imagenet: str) -> list[Step]:
    """Tiles of 20 places, of which eight are for calibration. A generator, and around it three seeds of the network."""
    name, tiles, models = "bayesian_srgan_aerial", output / "tiles", output / "models"
    generator = srgan_aerial(data, output, imagenet)[:3]  # the tiles; eight places left out, as far as the content loss
    members = [models / "ensemble" / f"seed_{seed}.pt" for seed in range(3)]
    common = {"dataset_dir": tiles, "validation_fraction": 0, "test_fraction": 0, "calibration_places": list(HELD_OUT)}
    trained = {**common, "feature_weights": imagenet, "crop_size": 120, "batch_size": 8, "place_power": 0.5,
        "size_power": 0.75, "pretrain_epochs": 6, "adversarial_epochs": 0, "val_interval": 2, "ema_decay": 0.995,
        "pretrain_schedule": "plateau", "sample_content_weight": 1, "freeze_generator": True,
        "init_weights": generator[-1].makes}  # fmt: skip
    steps, runs = list(generator), [output / "runs" / f"seed_{seed}" for seed in range(3)]
    for seed, (run, member) in enumerate(zip(runs, members, strict=True)):
        steps += [
            training(f"network, seed {seed}", name, run, {**trained, "seed": seed}),
            program(
                f"scale of the noise, seed {seed}", "scale", run / "final.pt", tiles, seed, makes=run / "fitted.pt"
            ),
            program(f"network of seed {seed} as shipped", "finish", run / "fitted.pt", makes=member),
        ]
    model = models / "model.pt"
    steps.append(program("a single network as shipped", "finish", runs[0] / "fitted.pt", makes=model))
    choices: list[tuple[str, Path, Options]] = [
        ("the single network", model, {"ckpt_path": model}),
        ("the ensemble", members[0], {"checkpoints": [str(member) for member in members]}),
    ]
    for words, weights, choice in choices:
        calibration = weights.parent / "calibration.json"
        options = {**common, "output_dir": runs[0], "calibration_path": calibration, **choice}
        command = bundle_run(name, ["train.json", "calibrate.json"], options)
        steps.append(Step(f"calibration of {words}", command, calibration))
    return steps


def prob_unet(data: Path, output: Path, imagenet: str) -> list[Step]:
    """LIDC-IDRI slices, split by patient: trained on all training cases in two rounds, scored on the test cases."""
    cases, first, run = output / "lidc", output / "runs" / "ordered", output / "runs" / "longer"
    common = {"dataset_dir": cases, "anonymous": True, "fold": "all"}
    trained = {**common, "validation_part": "Validation", "encoder_weights": imagenet, "max_epochs": 5,
        "val_interval": 5}  # fmt: skip
    longer = {**trained, "max_epochs": 3, "val_interval": 3, "learning_rate": 0.0005, "seed": 1,
        "init_weights": first / "final.pt"}  # fmt: skip
    return [
        program("cases of LIDC-IDRI", "slices", data / "lidc-2d", cases, makes=cases / "complete.txt"),
        training("training on all training cases", "prob_unet", first, trained),
        training("the same, longer", "prob_unet", run, longer),
        evaluation("scores on the test cases", "prob_unet", run,
            {**common, "evaluation_part": "Testing", "figure_ids": [], "search": True}),
        program("weights as shipped", "finish", run / "final.pt", makes=output / "models" / "model.pt"),
    ]  # fmt: skip


def qubiq_holistic(data: Path, output: Path, imagenet: str) -> list[Step]:
    """Cells of five raters (BU-BIL): three folds trained and scored, then a training on all cases."""
    name = "qubiq_holistic"
    common = {"dataset_dir": data / "multirater" / "bu-bil-cells", "precision": "fp32", "val_interval": 74}
    return [
        *_folds(name, output / "runs", {**common, "folds": 3}, {"write_samples": True}),
        *_all_cases(name, output, {**common, "fold": "all", "validation_part": "Training"}),
    ]


def lesion_unet(data: Path, output: Path, imagenet: str) -> list[Step]:
    """ISIC 2017: five folds and four kinds of camera, each held out and scored; then a training on all images."""
    name, source, cameras = "lesion_unet", data / "isic", output / "cameras.csv"
    common = {"dataset_dir": source, "encoder_weights": imagenet, "val_interval": 12}
    scored = {"adaptive_threshold": True}  # as the shipped weights are applied
    return [
        *_folds(name, output / "runs", {**common, "folds": 5}, scored),
        program("kinds of camera", "cameras", source, cameras, makes=cameras),
        *_folds(name, output / "runs", {**common, "folds": 4, "group": f"{cameras}:camera"}, scored, of="camera"),
        *_all_cases(name, output, {**common, "fold": "all"}),
    ]


def _folds(name: str, runs: Path, common: Options, scored: Options, *, of: str = "fold") -> list[Step]:
    """Each fold of `common` held out, trained and, with the options `scored`, scored; `of`: what a fold holds."""
    steps = []
    for fold in range(int(str(common["folds"]))):
        run, options = runs / f"{of}_{fold}", {**common, "fold": fold}
        steps.append(training(f"training, {of} {fold} held out", name, run, options))
        steps.append(evaluation(f"scores of {of} {fold}", name, run, {**options, **scored}))
    return steps


def _all_cases(name: str, output: Path, options: Options) -> list[Step]:
    run = output / "runs" / "all"
    return [
        training("training on all cases", name, run, options),
        program("weights as shipped", "finish", run / "final.pt", makes=output / "models" / "model.pt"),
    ]


RECIPES: dict[str, Callable[[Path, Path, str], list[Step]]] = {
    recipe.__name__: recipe for recipe in (lesion_unet, qubiq_holistic, prob_unet, srgan_aerial, bayesian_srgan_aerial)
}
