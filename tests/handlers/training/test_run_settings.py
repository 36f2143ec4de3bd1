"""Settings of a run are the numbers at the top of its config, whatever way the config is run."""

from __future__ import annotations

from monai.bundle import ConfigParser

from monai_ext.handlers.training.run_settings import RunSettings

TARGET = "monai_ext.handlers.training.run_settings.RunSettings"
CONFIG = {
    "_desc_": "not a setting",
    "bundle_root": ".",
    "output_dir": "runs",
    "phantom_images": "$@output_dir + '/images'",
    "phantoms": "$len(@bands)",
    "run": ["$1"],
    "finalize": [],
    "pretrain_epochs": 3,
    "max_epochs": "$2 * @pretrain_epochs",
    "unused": "$1 / 0",
    "bands": [1, 2],
    "raters": None,
    "method": "srgan",
    "optimizer": {"_target_": "torch.nn.Identity"},
    "record": {"_target_": TARGET, "settings": {"method": "another"}, "counts": {"tiles": "@bands"}},
}


def test_numbers_and_choices_at_the_top_are_settings_and_places_code_and_objects_are_not():
    parser = ConfigParser(CONFIG)
    record = parser.get_parsed_content("record")
    for name in ("max_epochs", "phantoms", "phantom_images"):
        parser.get_parsed_content(name)
    expected = {"pretrain_epochs": 3, "max_epochs": 6, "bands": [1, 2], "raters": None, "method": "another", "tiles": 2}
    assert record.read() == expected


def test_options_that_replace_a_number_are_what_is_recorded():
    parser = ConfigParser(CONFIG)
    parser.update({"pretrain_epochs": 5})
    assert parser.get_parsed_content("record").read()["pretrain_epochs"] == 5


def test_outside_a_config_there_are_the_given_settings_alone():
    assert RunSettings({"lr": 0.1}, counts={"tiles": "abc"}).read() == {"lr": 0.1, "tiles": 3}
