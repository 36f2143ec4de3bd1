from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_ext.data import (
    DatasetLayoutError,
    DecodeRaters,
    ImageFileError,
    open_nifti,
    qubiq_items,
    rater_image_items,
    read_nifti,
    save_nifti,
    write_rater_phantoms,
)
from monai_ext.data.first_look import review
from monai_ext.data.item_numbers import look_at
from monai_ext.data.raters.structures import column_names, rater_labels, structure_names, together
from monai_ext.engines import PrepareRaters, rater_cases
from monai_ext.phantoms.raters import draw_nested_case
from monai_ext.transforms.raters import rater_augmentation


@pytest.fixture
def nested(tmp_path):
    write_rater_phantoms(tmp_path, count=2, size=(32, 34), tasks=2)
    (tmp_path / "Training" / "case02" / "task02_seg04.nii.gz").unlink()
    return tmp_path


def test_tasks_are_structures_of_one_case_with_the_raters_first(nested):
    items = qubiq_items(nested, tasks=[2, 1])
    assert [item["id"] for item in items] == ["case01", "case02"]  # not one item for each task
    assert items[0]["structures"] == ["task02", "task01"] and items[0]["tasks"] == [2, 1]
    assert len(items[0]["label"]) == 10 and items[1]["label"][6] is None
    assert [path.endswith("task02_seg02.nii.gz") for path in items[0]["label"]] == [False, False, True] + [False] * 7
    assert column_names(items[0])[:2] == ["rater 1, task02", "rater 1, task01"]
    assert rater_labels(items[1])[3][0] is None
    batch = [DecodeRaters()(item) for item in qubiq_items(nested, tasks=[1, 2])]
    image, target = PrepareRaters()(
        {key: torch.stack([torch.as_tensor(item[key]) for item in batch]) for key in ("image", "label", "presence")}
    )
    assert torch.equal(target["masks"][0], draw_nested_case((32, 34), seed=(0, 0))[1])
    assert target["masks"].shape == (2, 5, 2, 32, 34) and target["presence"].shape == (2, 5, 2)
    assert target["presence"].logical_not().nonzero().tolist() == [[1, 3, 1]]


def test_training_keeps_the_columns_of_the_chosen_raters(nested):
    items = rater_cases(nested, method="conditioned", raters=[4, 2], tasks=[1, 2])
    names = [path and path.rpartition("/")[2].removesuffix(".nii.gz") for path in items[1]["label"]]
    assert names == ["task01_seg04", None, "task01_seg02", "task02_seg02"]


def test_one_rater_is_kept_with_all_structures_and_only_one_who_marked_all(nested):
    augment = rater_augmentation(
        flip_prob=0, rotate=0, scale=None, translate=None, gamma=None, noise=None, one_rater=True
    )
    label = torch.arange(6).view(1, 6, 1, 1).expand(1, 6, 4, 4).to(torch.uint8)  # 3 raters, 2 structures
    presence = torch.tensor([[[1, 1], [1, 0], [1, 1]]]).bool()
    kept = set()
    for seed in range(20):
        batch = {"image": torch.zeros(1, 1, 4, 4), "label": label, "presence": presence}
        kept.add(tuple(augment(batch, torch.Generator().manual_seed(seed))["label"][0, :, 0, 0].tolist()))
    assert kept == {(0.0, 1.0), (4.0, 5.0)}


def test_pictures_to_predict_have_the_tasks_too(nested):
    item = rater_image_items(nested / "Training" / "case01" / "image.nii.gz", tasks=[1, 2])[0]
    assert item["tasks"] == [1, 2] and item["structures"] == ["task01", "task02"] and "label" not in item
    assert "structures" not in rater_image_items(nested / "Training" / "case01" / "image.nii.gz")[0]


def test_wrong_tasks_are_refused_in_one_sentence(nested):
    for tasks in ([1, 1], ["a"], [0], "12"):
        with pytest.raises(ValueError, match="tasks is"):
            together(tasks)
    assert structure_names() is None and structure_names(tasks=[]) is None
    with pytest.raises(DatasetLayoutError, match="nobody marked task 3 in .*only 1, 2: choose tasks="):
        qubiq_items(nested, tasks=[1, 3])


def test_labels_of_one_file_are_structures_too(nested):
    for case in sorted((nested / "Training").iterdir()):
        for path in case.glob("task01_seg*"):
            cell, inner = read_nifti(path), case / path.name.replace("task01", "task02")
            nucleus = read_nifti(inner) if inner.exists() else np.zeros_like(cell)
            save_nifti(nib.Nifti1Image(cell + nucleus, open_nifti(path).affine), path)
            inner.unlink(missing_ok=True)
    labels = {"cell": [1, 2], "nucleus": [2]}
    items = qubiq_items(nested, labels=labels)
    assert items[0]["structures"] == ["cell", "nucleus"] and "tasks" not in items[0] and items[0]["task"] == 1
    item = DecodeRaters()(items[0])
    assert torch.equal(item["label"].unflatten(0, (5, 2)), draw_nested_case((32, 34), seed=(0, 0))[1])
    assert item["presence"].all() and item["presence"].shape == (5, 2)
    found = review(look_at(items, DecodeRaters()), labelled=True)
    assert not found.refused and not found.doubtful
    found = review(look_at(qubiq_items(nested, labels={"cell": 1, "scar": 9}), DecodeRaters()), labelled=True)
    assert found.refused == [
        "no mask has a pixel of scar: give its values by labels as they are in the masks, or leave it out."
    ]
    assert any(
        "2 of 2 masks hold values that are no structure's and count as background (2)" in s for s in found.doubtful
    )
    with pytest.raises(ImageFileError, match="holds the value .* name several structures by them"):
        DecodeRaters()(qubiq_items(nested)[0])
    with pytest.raises(ValueError, match="structures are either tasks, each in files of its own, or labels"):
        qubiq_items(nested, tasks=[1, 2], labels=labels)
