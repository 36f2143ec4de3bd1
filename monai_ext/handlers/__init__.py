from monai_ext.handlers.pictures.segmentation import PredictionWriter, SegmentationPictures
from monai_ext.handlers.pictures.triplets import TripletPictures
from monai_ext.handlers.raters.health import BetaWarmUp, CollapseAlarm, HeadHealthMonitor, SamplesAlikeAlarm
from monai_ext.handlers.raters.pictures import RaterPictures, RaterPredictionWriter
from monai_ext.handlers.raters.scores import MeanRaterScores, RaterReport
from monai_ext.handlers.segmentation_scores import CaseTable, MeanSegmentationScores
from monai_ext.handlers.super_resolution.adversarial_health import AdversarialAlarm
from monai_ext.handlers.super_resolution.adversarial_training import AdversarialTraining
from monai_ext.handlers.super_resolution.bayesian_health import LatentAlarm, SampleScores
from monai_ext.handlers.super_resolution.bayesian_pictures import SamplePictures
from monai_ext.handlers.super_resolution.bayesian_table import SampleTable
from monai_ext.handlers.super_resolution.many_hr_table import ManyHighResTable
from monai_ext.handlers.super_resolution.methods import load_generator, start_generator, uncertain_network
from monai_ext.handlers.super_resolution.scores import MeanSuperResolutionScores, SuperResolutionTable
from monai_ext.handlers.super_resolution.uncertainty import UncertaintyReport, foreign_tiles, group_tiles
from monai_ext.handlers.super_resolution.upscaled_files import UpscaledWriter
from monai_ext.handlers.training.checkpoints import (
    BestCheckpoint,
    FinalCheckpoint,
    NonFiniteLossGuard,
    ResumeHandler,
    load_checkpoint,
)
from monai_ext.handlers.training.curves import TrainingCurves
from monai_ext.handlers.training.normalisation import BatchNormUnfolder
from monai_ext.handlers.training.records import EpochTable, RunRecord, TrainingProgress
from monai_ext.handlers.training.schedule import one_cycle
from monai_ext.handlers.training.sizes import ProgressiveSize
from monai_ext.handlers.training.stages import StageCheckpoints, StagedLearningRate
from monai_ext.handlers.training.standard import StandardTraining
from monai_ext.handlers.training.tensorboard import MainProcessWriter
from monai_ext.handlers.training.weights import load_weights, with_weights

__all__ = [
    "AdversarialAlarm",
    "AdversarialTraining",
    "BatchNormUnfolder",
    "BestCheckpoint",
    "BetaWarmUp",
    "CaseTable",
    "CollapseAlarm",
    "UpscaledWriter",
    "EpochTable",
    "FinalCheckpoint",
    "HeadHealthMonitor",
    "LatentAlarm",
    "MainProcessWriter",
    "ManyHighResTable",
    "MeanRaterScores",
    "MeanSegmentationScores",
    "MeanSuperResolutionScores",
    "NonFiniteLossGuard",
    "PredictionWriter",
    "ProgressiveSize",
    "RaterPictures",
    "RaterPredictionWriter",
    "RaterReport",
    "ResumeHandler",
    "RunRecord",
    "SamplePictures",
    "SampleScores",
    "SampleTable",
    "SamplesAlikeAlarm",
    "SegmentationPictures",
    "StageCheckpoints",
    "StagedLearningRate",
    "SuperResolutionTable",
    "StandardTraining",
    "TrainingCurves",
    "TrainingProgress",
    "TripletPictures",
    "UncertaintyReport",
    "foreign_tiles",
    "group_tiles",
    "load_checkpoint",
    "load_generator",
    "load_weights",
    "one_cycle",
    "start_generator",
    "uncertain_network",
    "with_weights",
]
