from monai_ext.metrics.segmentation import (
    SEGMENTATION_SCORES,
    SegmentationScores,
    confusion_counts,
    segmentation_scores,
)

__all__ = ["SEGMENTATION_SCORES", "SegmentationScores", "confusion_counts", "segmentation_scores"]
