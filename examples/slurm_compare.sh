#!/bin/bash
# A comparison of losses as a SLURM job array: every job takes its part of the runs, two at a time on its GPU. A job that
# is preempted, or whose time is nearly over, is put back into the queue and goes on where it stopped.
#
#     job=$(sbatch --parsable --export=ALL,DATA=/scratch/ISIC2017,OUT=/scratch/runs/comparison examples/slurm_compare.sh)
#     sbatch --dependency=afterany:"$job" --wrap "python -m monai_ext report /scratch/runs/comparison"
#
# From the repository's root, with the environment active; OUT must lie on storage that all machines share.
#SBATCH --job-name=compare
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

BUNDLE=${BUNDLE:-bundles/lesion_unet}
: "${DATA:?set DATA to the folder of the data set}" "${OUT:?set OUT to the folder of the comparison}"
# Two minutes before the end: back into the queue, by which this job is ended.
trap 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' USR1

srun python -m monai_ext compare --bundle "$BUNDLE" --dataset_dir "$DATA" --output_dir "$OUT" \
    --losses bce dice tversky jaccard dice_bce --folds 5 --seeds 0 1 2 --jobs 2 \
    --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --encoder_weights imagenet &
wait $!
