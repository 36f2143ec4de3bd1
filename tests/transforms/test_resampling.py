"""The matrices of one axis: kernel, pseudo-inverse, and long axes in pieces."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms.resampling import axis_pieces, pseudo_inverse_matrix, reduction_matrix


def test_first_row_of_the_matrix_is_the_hand_computed_kernel():
    # x2, centre at 1.0: pixels 0.5 ... at distances 1/4, 1/4, 3/4, 5/4, 7/4 of a low-res pixel to the right
    near = [1 - 2.5 * t**2 + 1.5 * t**3 for t in (0.25, 0.25, 0.75)]
    far = [2 - 4 * t + 2.5 * t**2 - 0.5 * t**3 for t in (1.25, 1.75)]
    # and 3/4 to the left falls off the image, as 5/4 and 7/4 do
    expected = torch.tensor([near[0], near[1], near[2], *far], dtype=torch.float64)
    row = reduction_matrix(2, 4)[0]
    torch.testing.assert_close(row[:5], expected / expected.sum())
    assert (row[5:] == 0).all()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("blur", [0.0, 0.8])
def test_pseudo_inverse_satisfies_the_four_conditions_of_penrose(scale, blur):
    a, p = reduction_matrix(scale, 9, blur=blur), pseudo_inverse_matrix(scale, 9, blur=blur)
    for left, right in ((a @ p @ a, a), (p @ a @ p, p), ((a @ p).mT, a @ p), ((p @ a).mT, p @ a)):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-9)
    torch.testing.assert_close(p, torch.linalg.pinv(a), rtol=0, atol=1e-9)


@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize("size", [193, 256, 300, 519])
def test_long_axes_in_pieces_equal_the_dense_matrices(size, blur):
    device, dtype = torch.device("cpu"), torch.float64
    dense = {"reduce": reduction_matrix(2, size, blur=blur), "invert": pseudo_inverse_matrix(2, size, blur=blur)}
    for kind, expected in dense.items():
        pieces = axis_pieces(kind, 2, blur, size, device, dtype)
        assert len(pieces) > 1
        given = torch.zeros_like(expected)
        row = 0
        for window, matrix in pieces:
            given[row : row + len(matrix), window] = matrix
            row += len(matrix)
        assert row == len(expected)
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-11)


def test_matrices_do_not_grow_with_the_image():
    pieces = axis_pieces("invert", 4, 0.0, 5000, torch.device("cpu"), torch.float64)
    kept = {piece.matrix.data_ptr(): piece.matrix.numel() for piece in pieces}
    assert sum(kept.values()) < 250_000  # dense: 100 million
