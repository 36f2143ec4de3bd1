from monai_ext.handlers.adversarial_health import AdversarialAlarm, NonFiniteTermGuard, TermCurves
from monai_ext.handlers.bayesian_health import LatentAlarm, SampleScores
from monai_ext.handlers.bayesian_pictures import SamplePictures
from monai_ext.handlers.bayesian_table import SampleTable
from monai_ext.handlers.checkpoints import (
    BestCheckpoint,
    FinalCheckpoint,
    NonFiniteLossGuard,
    ResumeHandler,
    load_checkpoint,
)
from monai_ext.handlers.enlarged_files import EnlargedWriter
from monai_ext.handlers.many_answers_table import ManyAnswersTable
from monai_ext.handlers.normalisation import BatchNormUnfolder
from monai_ext.handlers.pictures import PredictionWriter, SegmentationPictures
from monai_ext.handlers.rater_health import BetaWarmUp, CollapseAlarm, HeadHealthMonitor, SamplesAlikeAlarm
from monai_ext.handlers.rater_pictures import RaterPictures, RaterPredictionWriter
from monai_ext.handlers.rater_scores import MeanRaterScores, RaterReport
from monai_ext.handlers.records import EpochTable, RunRecord, TrainingProgress
from monai_ext.handlers.scores import CaseTable, MeanSegmentationScores
from monai_ext.handlers.sizes import ProgressiveSize
from monai_ext.handlers.stages import StageCheckpoints, StagedLearningRate
from monai_ext.handlers.super_resolution import MeanSuperResolutionScores, SuperResolutionTable
from monai_ext.handlers.tensorboard import MainProcessWriter
from monai_ext.handlers.triplets import TripletPictures
from monai_ext.handlers.uncertainty import UncertaintyReport
from monai_ext.handlers.weights import load_weights

__all__ = [
    "AdversarialAlarm",
    "BatchNormUnfolder",
    "BestCheckpoint",
    "BetaWarmUp",
    "CaseTable",
    "CollapseAlarm",
    "EnlargedWriter",
    "EpochTable",
    "FinalCheckpoint",
    "HeadHealthMonitor",
    "LatentAlarm",
    "MainProcessWriter",
    "ManyAnswersTable",
    "MeanRaterScores",
    "MeanSegmentationScores",
    "MeanSuperResolutionScores",
    "NonFiniteLossGuard",
    "NonFiniteTermGuard",
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
    "TermCurves",
    "TrainingProgress",
    "TripletPictures",
    "UncertaintyReport",
    "load_checkpoint",
    "load_weights",
]
