"""Batches of images to be predicted: those that cannot be read are left out, and told of at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from monai.data import DataLoader, list_data_collate
from torch.utils.data import Dataset

from monai_ext.data.device.decoding import DecodeError
from monai_ext.runtime.errors import explain, some_of

__all__ = ["PredictionLoader"]

logger = logging.getLogger(__name__)


class PredictionLoader(DataLoader):
    """MONAI's `DataLoader`, in order, without the items that cannot be read.

    An item is left out, with a warning, where reading it raises an error that has a sentence of its own (see
    `monai_ext.runtime.errors.explain`); any other error is a defect and stops the iteration. Batches are smaller for
    it, and one of which nothing is left is no batch.

    Args:
        dataset: items with their transform.
        kwargs: as for `torch.utils.data.DataLoader`: batch_size, num_workers, ...
    """

    def __init__(self, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(_Attempts(dataset), collate_fn=_collate, **kwargs)
        self._seen, self._refused = 0, list[str]()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # as DataLoader's, but for the batches left out
        self._seen, self._refused = 0, []
        for batch in super().__iter__():
            self._seen += batch.tried
            for sentence in batch.refused:
                logger.warning("%s It is left out.", sentence)
            self._refused += batch.refused
            if batch.read is not None:
                yield batch.read

    def refuse_unread(self) -> None:
        """To be called after the last batch.

        Raises:
            DecodeError: items were left out in the iteration before; names them.
        """
        if not self._refused:
            return
        if len(self._refused) == self._seen:
            beginning = "" if self._seen == 1 else f"none of the {self._seen} images can be read: "
            raise DecodeError(beginning + some_of(self._refused, most=3, separator=" "))
        read, unread = self._seen - len(self._refused), len(self._refused)
        beginning = f"{read} of {self._seen} images are predicted, {unread} cannot be read: "
        raise DecodeError(beginning + some_of(self._refused, most=3, separator=" "))


class _Unread(NamedTuple):
    sentence: str


class _Batch(NamedTuple):
    read: Any  # None where nothing could be read
    refused: list[str]
    tried: int


class _Attempts(Dataset):
    """The items of a data set, or the sentence of the error in their place."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Mapping | _Unread:
        try:
            return self.dataset[index]
        except Exception as error:
            sentence = explain(error)
            if sentence is None:
                raise
            return _Unread(sentence)


def _collate(items: Sequence[Any]) -> _Batch:
    read = [item for item in items if not isinstance(item, _Unread)]
    refused = [item.sentence for item in items if isinstance(item, _Unread)]
    return _Batch(list_data_collate(read) if read else None, refused, len(items))
