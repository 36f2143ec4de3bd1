"""Names that a bundle's config may use without `inspect` marking them: classes, functions, attributes and modules.

An allow-list: what is not here is marked, whatever it is. Left out on purpose are parts of MONAI that import what a
text names (`TorchVision`, `FlexUNetEncoderRegister`), compile or download programs (`GaussianMixtureModel`,
`PerceptualLoss`), read foreign programs (`TrtHandler`) or talk to servers (`MLFlowHandler`, `ClearMLHandler`).
"""

from __future__ import annotations

import re
from itertools import product

__all__ = [
    "ATTRIBUTES", "BUILTINS", "CALLED_ONLY", "COUNTED", "LOADERS", "MODULES", "is_allowed_name", "is_allowed_target",
    "listed_names",
]  # fmt: skip

# Room -> names in it; X* stands for X, Xd, XD and XDict, X+ for the last three.
_ROOMS = {
    "monai.transforms": """
        Activations* AddCoordinateChannels* AddExtremePointsChannel* AdjustContrast* Affine* AffineGrid ApplyPending*
        ApplyTransformToPoints* AsChannelLast* AsDiscrete* BatchInverseTransform BorderPad* BoundingRect* CastToType*
        CenterScaleCrop* CenterSpatialCrop* ClassesToIndices* ClipIntensityPercentiles* Compose ComputeHoVerMaps*
        ConcatItems+ ConvertBoxToPoints* ConvertPointsToBoxes* ConvertToMultiChannelBasedOnBratsClasses* CopyItems+
        Crop* CropForeground* CutMix* CutOut* DataStats* Decollate+ DeleteItems+ DetectEnvelope DistanceTransformEDT*
        DivisiblePad* Ensemble+ EnsureChannelFirst* EnsureType* FgBgToIndices* FillHoles* FlattenSequence*
        FlattenSubKeys+ Flip* ForegroundMask* FromMetaTensor+ GaussianSharpen* GaussianSmooth* GenerateHeatmap*
        GibbsNoise* GridDistortion* GridPatch* GridSplit* HistogramNormalize* Identity* ImageFilter* IntensityRemap
        IntensityStats* Invert* KSpaceSpikeNoise* KeepLargestConnectedComponent* LabelFilter* LabelToContour*
        LabelToMask* Lambda* MapLabelValue* Mark* MaskIntensity* MeanEnsemble* MedianSmooth* MixUp* NormalizeIntensity*
        OneOf Orientation* Pad* PadListDataCollate ProbNMS* Rand2DElastic* Rand3DElastic* RandAdjustContrast*
        RandAffine* RandAffineGrid RandAxisFlip* RandBiasField* RandCoarseDropout* RandCoarseShuffle*
        RandCoarseTransform RandCropByLabelClasses* RandCropByPosNegLabel* RandCrop+ RandDeformGrid RandFlip*
        RandGaussianNoise* RandGaussianSharpen* RandGaussianSmooth* RandGibbsNoise* RandGridDistortion* RandGridPatch*
        RandHistogramShift* RandIdentity RandImageFilter* RandIntensityRemap RandKSpaceSpikeNoise* RandLambda*
        RandMark* RandRangePop* RandRangePush* RandRicianNoise* RandRotate* RandRotate90* RandScaleCrop*
        RandScaleIntensity* RandScaleIntensityFixedMean* RandShiftIntensity* RandSimulateLowResolution*
        RandSmoothDeform* RandSmoothFieldAdjustContrast* RandSmoothFieldAdjustIntensity* RandSpatialCrop*
        RandSpatialCropSamples* RandStdShiftIntensity* RandWeightedCrop* RandZoom* RandomOrder RangePop* RangePush*
        RemoveRepeatedChannel* RemoveSmallObjects* RepeatChannel* Resample ResampleToMatch* Resize*
        ResizeWithPadOrCrop* Rotate* Rotate90* SavitzkyGolaySmooth* ScaleIntensity* ScaleIntensityFixedMean
        ScaleIntensityRange* ScaleIntensityRangePercentiles* SelectItems+ ShiftIntensity* SignalContinuousWavelet
        SignalFillEmpty* SignalRandAddGaussianNoise SignalRandAddSine SignalRandAddSinePartial SignalRandAddSquarePulse
        SignalRandAddSquarePulsePartial SignalRandDrop SignalRandScale SignalRandShift SignalRemoveFrequency
        SimulateDelay* SobelGradients* SomeOf Spacing* SpatialCrop* SpatialPad* SpatialResample* SplitDim* SqueezeDim*
        StdShiftIntensity* ThresholdIntensity* ToCupy* ToDevice* ToMetaTensor+ ToNumpy* ToPIL* ToTensor*
        TransformPointsImageToWorld+ TransformPointsWorldToImage+ Transpose* UltrasoundConfidenceMapTransform
        VoteEnsemble* Zoom*
    """,
    "monai.networks.nets": """
        AHNet AttentionUnet AutoEncoder AutoencoderKL BasicUNet BasicUNetPlusPlus BasicUnet Classifier ControlNet
        Critic DAF3D DecoderOnlyTransformer DenseNet DenseNet121 DenseNet169 DenseNet201 DenseNet264 DiNTS
        DiffusionModelUNet Discriminator DynUNet DynUnet EfficientNet EfficientNetBN EfficientNetBNFeatures
        EfficientNetEncoder FlexibleUNet FullyConnectedNet Generator GlobalNet HighResBlock HighResNet HoVerNet
        HyenaNDUNETR LocalNet MILModel MaskedAutoEncoderViT MedNeXt MultiScalePatchDiscriminator NaViT NetAdapter
        PatchDiscriminator PatchMerging PatchMergingV2 Quicknat RegUNet Regressor ResNet ResNetBlock ResNetBottleneck
        ResNetEncoder ResNetFeatures SENet SENet154 SEResNet101 SEResNet152 SEResNet50 SEResNext101 SEResNext50
        SPADEAutoencoderKL SPADEDiffusionModelUNet SPADENet SegResNet SegResNetDS SegResNetDS2 SegResNetVAE SwinUNETR
        TopologyConstruction TopologyInstance TopologySearch TorchVisionFCModel Transchex UNETR UNet Unet VISTA3D VNet
        VQVAE VarAutoEncoder VarFullyConnectedNet ViT ViTAutoEnc VoxelMorph VoxelMorphUNet
    """,
    "monai.networks.blocks": """
        ADN ActiConvNormBlock BackboneWithFPN BaseEncoder CABlock CRF ChannelSELayer ConvDenseBlock Convolution
        CrossAttentionBlock DVF2DDF DenseBlock DepthwiseFFTConv2d DepthwiseFFTConv3d DownSample ExtraFPNBlock FCN
        FactorizedIncreaseBlock FactorizedReduceBlock FeaturePyramidNetwork FeedForward GCN GEGLU HyenaMixer
        HyenaTransformerBlock LastLevelMaxPool LastLevelP6P7 LocalNetDownSampleBlock LocalNetFeatureExtractorBlock
        LocalNetUpSampleBlock MCFCN MLPBlock MaxAvgPool MedNeXtBlock MedNeXtDownBlock MedNeXtOutBlock MedNeXtUpBlock
        MemoryEfficientSwish Mish P3DActiConvNormBlock PatchEmbed PatchEmbeddingBlock Refine
        RegistrationDownSampleBlock RegistrationExtractionBlock RegistrationResidualConvBlock ResBlock ResidualSELayer
        ResidualUnit SABlock SEBlock SEBottleneck SEResNeXtBottleneck SEResNetBottleneck SPADE SimpleASPP
        SpatialAttentionBlock SubpixelDownsample SubpixelUpsample Swish TransformerBlock UnetBasicBlock UnetOutBlock
        UnetResBlock UnetUpBlock UnetrBasicBlock UnetrPrUpBlock UnetrUpBlock UpSample Warp
    """,
    "monai.networks.layers": """
        AffineTransform ApplyFilter BilateralFilter ChannelPad ConjugateGradient DropPath EMAQuantizer EllipticalFilter
        Flatten GaussianFilter HilbertTransform LaplaceFilter MeanFilter MedianFilter PHLFilter Reshape
        SavitzkyGolayFilter SharpenFilter SkipConnection TrainableBilateralFilter TrainableJointBilateralFilter
        VectorQuantizer
    """,
    "monai.losses": """
        AUCMLoss AsymmetricUnifiedFocalLoss BarlowTwinsLoss BendingEnergyLoss BoundaryLoss BoxGIoULoss ContrastiveLoss
        DeepSupervisionLoss DiceCELoss DiceFocalLoss DiceLoss DiffusionLoss FocalLoss GeneralizedDiceFocalLoss
        GeneralizedDiceLoss GeneralizedWassersteinDiceLoss GlobalMutualInformationLoss HausdorffDTLoss JukeboxLoss
        LocalNormalizedCrossCorrelationLoss LogHausdorffDTLoss MCCLoss MaskedDiceLoss MaskedLoss MultiScaleLoss
        NACLLoss PatchAdversarialLoss SSIMLoss SURELoss SoftDiceclDiceLoss SoftclDiceLoss TverskyLoss
    """,
    "monai.metrics": """
        AbsoluteVolumeDifferenceMetric AveragePrecisionMetric CalibrationErrorMetric CalibrationReduction
        ConfusionMatrixMetric Cumulative CumulativeAverage CumulativeIterationMetric DiceHelper DiceMetric
        EmbeddingCollapseMetric FBetaScore FIDMetric GeneralizedDiceScore HausdorffDistanceMetric IterationMetric
        LabelQualityScore LossMetric MAEMetric MAPEMetric MMDMetric MSEMetric MeanIoU Metric MetricsReloadedBinary
        MetricsReloadedCategorical MultiScaleSSIMMetric PSNRMetric PanopticQualityMetric RMSEMetric ROCAUCMetric
        SSIMMetric SurfaceDiceMetric SurfaceDistanceMetric VarianceMetric
    """,
    "monai.inferers": """
        AvgMerger ControlNetDiffusionInferer ControlNetLatentDiffusionInferer DiffusionInferer Inferer
        LatentDiffusionInferer Merger SaliencyInferer SimpleInferer SliceInferer SlidingWindowInferer
        SlidingWindowInfererAdapt SlidingWindowSplitter Splitter VQVAETransformerInferer WSISlidingWindowSplitter
        ZarrAvgMerger
    """,
    "monai.optimizers": """
        ExponentialLR LearningRateFinder LinearLR Novograd WarmupCosineSchedule
    """,
    "monai.engines": """
        AdversarialTrainer DiffusionPrepareBatch EnsembleEvaluator Evaluator GanTrainer IterationEvents PrepareBatch
        PrepareBatchDefault PrepareBatchExtraInput SupervisedEvaluator SupervisedTrainer Trainer
        VPredictionPrepareBatch Workflow
    """,
    "monai.handlers": """
        AveragePrecision CalibrationError CheckpointLoader CheckpointSaver ConfusionMatrix DecollateBatch
        EarlyStopHandler GarbageCollector HausdorffDistance IgniteMetricHandler LrScheduleHandler MarkHandler
        MeanAbsoluteError MeanDice MeanIoUHandler MeanSquaredError MetricLogger MetricLoggerKeys
        MetricsReloadedBinaryHandler MetricsReloadedCategoricalHandler MetricsSaver PanopticQuality
        ParamSchedulerHandler PeakSignalToNoiseRatio PostProcessing ProbMapProducer ROCAUC RangeHandler RangePopHandler
        RangePushHandler RootMeanSquaredError SmartCacheHandler StatsHandler SurfaceDistance TensorBoardHandler
        TensorBoardImageHandler TensorBoardStatsHandler ValidationHandler
    """,
    "monai.data": """
        ArrayDataset CSVDataset CSVIterableDataset CacheDataset DataLoader Dataset
        DistributedSampler DistributedWeightedRandomSampler FolderLayout GridPatchDataset ITKReader ITKWriter
        IterableDataset MaskedPatchWSIDataset MetaTensor NPZDictItemDataset NibabelReader NibabelWriter
        NrrdReader PILReader PILWriter PatchDataset PatchIter PatchIterd PatchWSIDataset
        PydicomReader ShuffleBuffer SlidingPatchWSIDataset SmartCacheDataset TestTimeAugmentation ThreadBuffer
        ThreadDataLoader WSIReader ZipDataset decollate_batch list_data_collate load_decathlon_datalist
        pad_list_data_collate partition_dataset partition_dataset_classes select_cross_validation_folds set_track_meta
        sorted_dict worker_init_fn
    """,
    "torch.nn": """
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveLogSoftmaxWithLoss AdaptiveMaxPool1d
        AdaptiveMaxPool2d AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BCELoss BCEWithLogitsLoss
        BatchNorm1d BatchNorm2d BatchNorm3d Bilinear Buffer CELU CTCLoss ChannelShuffle CircularPad1d CircularPad2d
        CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d
        ConvTranspose3d CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss CrossMapLRN2d DataParallel Dropout
        Dropout1d Dropout2d Dropout3d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten Fold FractionalMaxPool2d
        FractionalMaxPool3d GELU GLU GRU GRUCell GaussianNLLLoss GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh
        HingeEmbeddingLoss HuberLoss Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d KLDivLoss L1Loss LPPool1d
        LPPool2d LPPool3d LSTM LSTMCell LayerNorm LeakyReLU Linear LinearCrossEntropyLoss LocalResponseNorm LogSigmoid
        LogSoftmax MSELoss MarginRankingLoss MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d Mish
        Module ModuleDict ModuleList MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss MultiheadAttention
        NLLLoss NLLLoss2d PReLU PairwiseDistance Parameter ParameterDict ParameterList PixelShuffle PixelUnshuffle
        PoissonNLLLoss RMSNorm RNN RNNBase RNNCell RNNCellBase RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d
        ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU Sequential SiLU Sigmoid SmoothL1Loss
        SoftMarginLoss Softmax Softmax2d Softmin Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold
        Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer
        TripletMarginLoss TripletMarginWithDistanceLoss Unflatten Unfold Upsample UpsamplingBilinear2d
        UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
    """,
    "torch.optim": """
        ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS Muon NAdam Optimizer RAdam RMSprop Rprop SGD SparseAdam
    """,
    "torch.optim.lr_scheduler": """
        ChainedScheduler ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LambdaLR
        LinearLR MultiStepLR MultiplicativeLR OneCycleLR PolynomialLR ReduceLROnPlateau SequentialLR StepLR
    """,
    "torch.utils.data": """
        BatchSampler ConcatDataset DataLoader Dataset DistributedSampler RandomSampler SequentialSampler Subset
        SubsetRandomSampler TensorDataset WeightedRandomSampler default_collate random_split
    """,
    "ignite.metrics": """
        Accuracy Average AveragePrecision ClassificationReport CohenKappa CommonObjectDetectionMetrics ConfusionMatrix
        CosineSimilarity DiceCoefficient Entropy EpochMetric FID Fbeta Frequency GeometricAverage HSIC HitRate IoU
        JSDivergence JaccardIndex KLDivergence Loss MatthewsCorrCoef MaximumMeanDiscrepancy MeanAbsoluteError
        MeanAveragePrecision MeanPairwiseDistance MeanSquaredError Metric MetricGroup MetricUsage MetricsLambda
        MultiLabelConfusionMatrix MutualInformation NDCG ObjectDetectionAvgPrecisionRecall PSNR Precision
        PrecisionRecallCurve ROC_AUC Recall RocCurve RootMeanSquaredError RunningAverage SSIM TopKCategoricalAccuracy
        VariableAccumulation
    """,
    "ignite.handlers": """
        CosineAnnealingScheduler EarlyStopping LRScheduler LinearCyclicalScheduler ParamScheduler PiecewiseLinear
        ProgressBar TerminateOnNan TimeLimit Timer create_lr_scheduler_with_warmup global_step_from_engine
    """,
}

# Targets alone: what an expression gives them, by position for instance, could let them import or unpickle.
LOADERS = frozenset(
    f"{name}{ending}"
    for name, ending in product(
        ("LoadImage", "SaveImage", "SaveClassification", "WriteFileMapping"), ("", "d", "D", "Dict")
    )
) | {
    "CacheNTransDataset", "ClassificationSaver", "ImageDataset", "LogfileHandler", "NumpyReader", "PatchInferer",
    "PersistentDataset",
}  # fmt: skip
_LOADER_ROOMS = ("monai.transforms", "monai.handlers", "monai.inferers", "monai.data")

# Of this package: classes that the public rooms offer, and these.
_OWN_ROOMS = re.compile(
    r"monai_ext\.(networks|losses|metrics|transforms|inferers|engines|handlers|data)\.(?!Tile(?:Client|Source|Area))[A-Z]\w*"
)
_OWN = frozenset(
    f"monai_ext.{name}"
    for name in """
        commands.demo.aerial.aerial_blocks commands.demo.bayesian.bayesian_blocks commands.demo.lesions.lesion_blocks
        commands.demo.raters.rater_blocks data.fold_items data.image_items data.lesion_items data.many_hr_items
        data.near_duplicates.groups_by_id data.rater_image_items data.split_by_fold data.split_by_place data.tile_items
        data.find_scale data.structure_names data.tile_set data.tile_weights engines.generator_optimizer
        data.folds.named_groups handlers.trained_network losses.pixel_loss
        data.write_aerial_phantoms data.write_lesion_phantoms data.write_rater_phantoms engines.logistic_adversary
        engines.named_rater_loss engines.rater_cases engines.rater_loss engines.rater_network
        engines.choose_spread engines.inference_network handlers.choose_temperature handlers.known_temperature
        handlers.super_resolution.many_hr_table.ManyHighResTable transforms.many_high_res.ManyHighResCrops
        handlers.foreign_tiles handlers.group_tiles handlers.load_generator handlers.load_weights handlers.one_cycle
        handlers.start_generator handlers.take_settings_of_run handlers.uncertain_network handlers.with_weights
        inferers.test_time_augmentation.largest_size networks.bayesian_convolution networks.bayesian_srresnet
        networks.detail_discriminator transforms.rater_augmentation
        phantoms.aerial.write_aerial_phantoms runtime.ranks.data_parallel runtime.ranks.join_ranks
        runtime.ranks.rank_device runtime.settings.chosen runtime.start.start_run
    """.split()
)

# Expressions alone, by the module that they are in.
_VALUES = {
    "torch": """
        Tensor Size abs amax amin arange argmax argmin as_tensor bfloat16 bool cat channels_last channels_last_3d clamp
        complex64 concat concatenate contiguous_format cuda.current_device cuda.device_count cuda.empty_cache
        cuda.is_available cuda.manual_seed cuda.manual_seed_all cuda.set_device device dtype exp eye flip float float16
        float32 float64 from_numpy full inf int int16 int32 int64 int8 isnan linspace log logical_and logical_or long
        manual_seed max mean min nan no_grad nn.functional.interpolate nn.functional.one_hot nn.functional.pad
        nn.functional.relu nn.functional.sigmoid nn.functional.softmax nn.parallel.DistributedDataParallel
        nn.SyncBatchNorm.convert_sync_batchnorm numel ones ones_like permute pi preserve_format rand randint randn
        randperm reshape round set_float32_matmul_precision sigmoid softmax sort split sqrt squeeze stack std sum
        tensor tanh transpose uint8 unique unsqueeze version.cuda where zeros zeros_like backends.cudnn.benchmark
        backends.cudnn.deterministic backends.cudnn.enabled backends.mps.is_available distributed.barrier
        distributed.destroy_process_group distributed.get_rank distributed.get_world_size distributed.is_available
        distributed.is_initialized
    """,
    "numpy": """
        abs all any arange argmax argmin argsort argwhere array array_equal asarray ascontiguousarray bool bool_ ceil
        clip concatenate copy cos cumsum diag diff divide dot dtype e exp expand_dims eye flip float16 float32 float64
        floor full inf int16 int32 int64 int8 integer isfinite isin isnan linspace log log10 log2 logical_and
        logical_not logical_or max maximum mean median min minimum moveaxis nan nan_to_num ndarray newaxis nonzero ones
        ones_like pad percentile pi prod quantile random.choice random.permutation random.rand random.randint
        random.randn random.seed random.shuffle random.uniform ravel repeat reshape rint round sign sin sort split sqrt
        squeeze stack std sum swapaxes tan tile transpose uint16 uint32 uint64 uint8 unique var vstack hstack where
        zeros zeros_like
    """,
    "monai": """
        __version__ config.print_config utils.set_determinism utils.first utils.misc.first utils.ensure_tuple
        utils.ensure_tuple_rep utils.CommonKeys utils.enums.CommonKeys utils.GridSampleMode utils.InterpolateMode
        utils.GridSamplePadMode utils.BlendMode utils.PytorchPadMode utils.NumpyPadMode utils.MetricReduction
        utils.LossReduction utils.ForwardMode utils.PostFix utils.get_torch_version_tuple utils.fall_back_tuple
        handlers.from_engine handlers.stopping_fn_from_metric handlers.stopping_fn_from_loss handlers.ignore_data
        handlers.utils.from_engine transforms.concatenate transforms.get_largest_connected_component_mask
        transforms.utility.array.concatenate transforms.stack networks.layers.Norm networks.layers.Act
        networks.layers.Conv networks.layers.factories.Norm networks.layers.factories.Act networks.one_hot
        networks.utils.one_hot networks.eval_mode networks.train_mode networks.normal_init
        inferers.sliding_window_inference networks.nets.resnet10 networks.nets.resnet18 networks.nets.resnet34
        networks.nets.resnet50 networks.nets.resnet101 engines.default_prepare_batch engines.default_metric_cmp_fn
        engines.utils.default_prepare_batch engines.utils.IterationEvents.FORWARD_COMPLETED metrics.compute_roc_auc
        metrics.compute_dice
    """,
    "ignite": "engine.Events handlers.Events distributed.get_rank distributed.get_world_size distributed.device",
    "os": """
        cpu_count environ.get getcwd getenv listdir makedirs sep path.abspath path.basename path.dirname path.exists
        path.expanduser path.isdir path.isfile path.join path.normpath path.realpath path.relpath path.sep path.split
        path.splitext
    """,
    "collections": "OrderedDict defaultdict Counter",
    "copy": "copy deepcopy",
    "datetime": "date datetime timedelta timezone",
    "functools": "partial reduce",
    "glob": "glob iglob",
    "itertools": """
        accumulate chain chain.from_iterable combinations count cycle islice permutations product repeat starmap
        zip_longest
    """,
    "json": "dumps loads",
    "logging": "CRITICAL DEBUG ERROR INFO WARNING getLogger",
    "math": "ceil cos exp floor gcd inf isclose isnan log log10 log2 nan pi pow prod sin sqrt tan tanh",
    "operator": "add eq floordiv ge gt itemgetter le lt mod mul ne neg not_ sub truediv",
    "pathlib": "Path PurePath PurePosixPath",
    "random": "choice choices randint random sample seed shuffle uniform",
    "re": "compile findall fullmatch match search split sub",
    "time": "perf_counter strftime time",
    "warnings": "filterwarnings simplefilter",
    "scipy.ndimage": """
        binary_closing binary_dilation binary_erosion binary_fill_holes binary_opening gaussian_filter label zoom
    """,
    "matplotlib.pyplot": "close figure hist imshow plot show subplot subplots title",
}

# Functions of expressions that must be called where they are named, with none but these keywords.
CALLED_ONLY = {
    "torch.load": frozenset({"map_location", "weights_only", "mmap"}),
    "torch.distributed.init_process_group": frozenset({"backend", "timeout"}),
    "setattr": frozenset[str](),
}

BUILTINS = frozenset(
    """
    abs all any bool complex dict divmod enumerate filter float frozenset int isinstance issubclass iter len list map
    max min next pow print range reversed round set setattr slice sorted str sum tuple zip
    """.split()
)

# Attributes and methods of values; whole words in capitals, such as members of an enumeration, are allowed as well.
ATTRIBUTES = frozenset(
    """
    T absolute add_event_handler append argmax argmin as_posix astype attach average batch batch_size best_metric
    best_metric_epoch bfloat16 bool channels children clamp clip clone close content contiguous copy count cpu cuda data
    dataloader dataset date debug detach device difference dim disable_share_memory_cache double dtype endswith energy
    epoch epoch_length error eval exists expand extend flatten float forward fromkeys fromtimestamp get glob half index
    info insert int intersection inverse is_cuda is_dir is_file isdigit isoformat item items iteration iterdir join
    joinpath keys known_raters last_epoch load_state_dict logger long lower lstrip max max_epochs mean metrics min mkdir
    module modules name named_modules named_parameters ndim now numel numpy output parameters params parent parents
    parts permute pop refuse_unread relative_to repeat replace requires_grad requires_grad_ reshape resolve rglob rsplit
    rstrip run sample_content score setLevel set_epoch set_random_state shape size sort split splitlines squeeze
    startswith state state_dict std stem step stop strftime strip suffix sum to today tolist total_seconds train
    training transform transforms transpose union unsqueeze update upper validation values var view warning
    with_name with_suffix zero_grad zfill
    """.split()
)
# Of these methods, how many arguments texts and lists take; files are moved by others.
COUNTED = {"replace": (2, 3), "copy": (0, 0)}

_TRUSTED = ("monai", "monai_ext", "torch", "numpy", "ignite")
MODULES = frozenset(_VALUES) | {"os.path", "scipy", "matplotlib", "typing"} | set(_TRUSTED)


_ENDINGS = {"*": ("", "d", "D", "Dict"), "+": ("d", "D", "Dict")}


def _names(room: str, text: str) -> set[str]:
    return {f"{room}.{word.rstrip('*+')}{ending}" for word in text.split() for ending in _ENDINGS.get(word[-1], ("",))}


_TARGETS = frozenset().union(*(_names(room, text) for room, text in _ROOMS.items())) | {
    "torch.nn.parallel.DistributedDataParallel", "torch.device", "torch.tensor", "monai.utils.set_determinism",
    "torch.utils.tensorboard.SummaryWriter", "monai.handlers.from_engine",
}  # fmt: skip
_SHORT = frozenset(name.rpartition(".")[2] for name in _TARGETS if name.startswith("monai."))
_NAMED = frozenset().union(*(_names(module, text) for module, text in _VALUES.items()))
_DEEPER = re.compile(
    r"(monai\.(?:networks\.)?\w+|ignite\.\w+)\.(?:[a-z_0-9]+\.)+(\w+)"
)  # monai.data.utils.decollate_batch


def listed_names() -> frozenset[str]:
    """All names of the lists, dotted."""
    return _TARGETS | _NAMED | _OWN


def is_allowed_target(name: str) -> bool:
    """Whether `name`, short or dotted, may be a `_target_`."""
    room, _, last = name.rpartition(".")
    if last in LOADERS:
        return room == "" or room.startswith(_LOADER_ROOMS)
    return name in _SHORT or _is_listed(name)


def is_allowed_name(name: str) -> bool:
    """Whether an expression may use the dotted `name`."""
    return name.rpartition(".")[2] not in LOADERS and (name in _NAMED or name in CALLED_ONLY or _is_listed(name))


def _is_listed(name: str) -> bool:
    if name in _TARGETS or name in _OWN or _OWN_ROOMS.fullmatch(name):
        return True
    deeper = _DEEPER.fullmatch(name)
    return deeper is not None and f"{deeper[1]}.{deeper[2]}" in _TARGETS
