"""Parts of monai_ext in a MONAI project of your own: a network, a device data set, a metric and a trained bundle.

    python examples/in_your_own_project.py --bundle_dir bundles
    python examples/in_your_own_project.py --bundle_dir bundles --dataset_dir ISIC2017 --epochs 5

Without --dataset_dir phantoms are drawn. Nothing here is a bundle run: MONAI's own trainer, losses and metrics do the
work, and every part can be taken without the others.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from monai.bundle import load
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from torch import Tensor, nn

from monai_ext.data import (
    DecodeImaged,
    DecodeRaters,
    DeviceDataset,
    DeviceLoader,
    fold_items,
    lesion_items,
    qubiq_items,
    write_lesion_phantoms,
    write_rater_phantoms,
)
from monai_ext.metrics import GeneralizedEnergyDistance
from monai_ext.networks import MobileNetV2UNet, ProbabilisticUNet
from monai_ext.transforms import BatchAugment, RandomAffine, RandomFlip

SIZE = [96, 128]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMALISE = BatchAugment(mean=MEAN, std=STD)  # nothing drawn: to float and normalised
AUGMENT = BatchAugment([RandomFlip(), RandomAffine(rotate=180, scale=[0.8, 1.25])], mean=MEAN, std=STD)


def train_a_network_on_a_device_data_set(dataset_dir: Path, *, device: str, epochs: int) -> tuple[nn.Module, float]:
    """Our network and data set under MONAI's trainer, loss and metric: the network and its mean validation Dice."""
    items = lesion_items(dataset_dir)
    loaders = {}
    for part, augment in (("training", AUGMENT), ("validation", NORMALISE)):
        data = DeviceDataset(fold_items(items, 0, part=part), DecodeImaged(SIZE), device=device)
        learning = part == "training"
        loaders[part] = DeviceLoader(data, batch_size=8, shuffle=learning, drop_last=learning, transform=augment)
    network = MobileNetV2UNet(in_channels=3, out_channels=1, width=0.5).to(device)
    SupervisedTrainer(
        device=device,
        max_epochs=epochs,
        train_data_loader=loaders["training"],
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-3),
        loss_function=DiceCELoss(sigmoid=True),
        decollate=False,  # batches stay whole
    ).run()
    metric = DiceMetric()
    network.eval()
    with torch.no_grad():
        for batch in loaders["validation"]:
            metric((network(batch["image"]) > 0).float(), batch["label"])
    return network, metric.aggregate().item()


def score_sets_of_masks_against_several_raters(dataset_dir: Path, *, draws: int = 8) -> float:
    """The generalised energy distance as any other MONAI metric, here of an untrained probabilistic U-Net."""
    network = ProbabilisticUNet(in_channels=1, features=[8, 8, 8, 8, 8])
    decode, metric = DecodeRaters(normalise="minmax"), GeneralizedEnergyDistance()
    for item in qubiq_items(dataset_dir):
        case = decode(item)
        samples = network.sample(case["image"][None], draws)  # (1, M, H, W), probabilities
        metric(samples, case["label"][None])  # against (1, R, H, W)
    return metric.aggregate().item()


def apply_a_trained_bundle(bundle_dir: Path, picture: Path, *, device: str) -> Tensor:
    """The mask (H, W) that the bundle `lesion_unet` finds in a picture, at the size that the network sees."""
    network = load("lesion_unet", bundle_dir=bundle_dir, workflow_type="inference", source="github", device=device)
    pixels = DecodeImaged(SIZE)({"image": picture})["image"]
    network.eval()
    with torch.no_grad():
        logits = network(NORMALISE({"image": pixels[None].to(device)})["image"])
    return logits[0, 0] > 0


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle_dir", type=Path, required=True, help="folder that holds the bundle lesion_unet")
    parser.add_argument("--dataset_dir", type=Path, help="lesion images and masks (default: phantoms)")
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        lesions, raters = args.dataset_dir or Path(temporary, "lesions"), Path(temporary, "raters")
        if args.dataset_dir is None:
            write_lesion_phantoms(lesions, count=40, size=SIZE)
        write_rater_phantoms(raters, count=4, size=[64, 64])
        _, dice = train_a_network_on_a_device_data_set(lesions, device=device, epochs=args.epochs)
        print(f"validation Dice after {args.epochs} epochs: {dice:.3f}")
        distance = score_sets_of_masks_against_several_raters(raters)
        print(f"squared energy distance of an untrained network, 8 draws: {distance:.3f}")
        picture = Path(lesion_items(lesions)[0]["image"])
        mask = apply_a_trained_bundle(args.bundle_dir, picture, device=device)
        print(f"{picture.name}: {mask.float().mean():.0%} of the picture is lesion")
    return {"dice": dice, "distance": distance, "mask": mask.cpu()}


if __name__ == "__main__":
    main()
