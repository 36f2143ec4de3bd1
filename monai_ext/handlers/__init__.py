from monai_ext.handlers.checkpoints import (
    BestCheckpoint,
    FinalCheckpoint,
    NonFiniteLossGuard,
    ResumeHandler,
    load_checkpoint,
)
from monai_ext.handlers.normalisation import BatchNormUnfolder
from monai_ext.handlers.pictures import PredictionWriter, SegmentationPictures
from monai_ext.handlers.records import EpochTable, RunRecord, TrainingProgress
from monai_ext.handlers.scores import CaseTable, MeanSegmentationScores
from monai_ext.handlers.sizes import ProgressiveSize
from monai_ext.handlers.tensorboard import MainProcessWriter

__all__ = [
    "BatchNormUnfolder",
    "BestCheckpoint",
    "CaseTable",
    "EpochTable",
    "FinalCheckpoint",
    "MainProcessWriter",
    "MeanSegmentationScores",
    "NonFiniteLossGuard",
    "PredictionWriter",
    "ProgressiveSize",
    "ResumeHandler",
    "RunRecord",
    "SegmentationPictures",
    "TrainingProgress",
    "load_checkpoint",
]
