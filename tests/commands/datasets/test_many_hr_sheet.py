"""Contact sheets of a data set of many high resolutions."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.commands.datasets.many_hr_sheet import CAPTION, GAP, contact_sheet


def test_a_sheet_has_a_row_for_each_record_and_a_picture_for_each_target(built):
    sheet = contact_sheet(built, ["000001", "000000"])
    columns = (sheet.width + GAP) // (64 + GAP)
    assert sheet.height == 2 * (64 + CAPTION + GAP) - GAP and columns >= 4
    pixels = np.asarray(sheet)
    assert pixels[CAPTION : CAPTION + 64, :64].std() > 0
    with pytest.raises(ValueError, match=r"record nothing is not in"):
        contact_sheet(built, ["nothing"])
    with pytest.raises(ValueError, match="records=0"):
        contact_sheet(built, 0)
