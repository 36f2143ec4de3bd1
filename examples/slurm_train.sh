#!/bin/bash
# Train a bundle on several machines of a SLURM cluster. A lost process is started again on the spot, a preempted job is
# put back into the queue; both go on after the last whole epoch.
#
#     sbatch --export=ALL,DATA=/scratch/ISIC2017,RUN=/scratch/runs/lesion examples/slurm_train.sh
#
# From the repository's root, with the environment active; RUN must lie on storage that all machines share.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

BUNDLE=${BUNDLE:-bundles/lesion_unet}
: "${DATA:?set DATA to the folder of the data set}" "${RUN:?set RUN to the folder of the run}"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)  # reads all: head would break the pipe, and the job
export OMP_NUM_THREADS=8  # CPUs of a task / processes of a machine
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # a second start must not read the addresses of the first one

srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_NNODES" --nproc_per_node="${SLURM_GPUS_ON_NODE:-4}" --max-restarts=3 \
    --rdzv_backend=c10d --rdzv_id="$SLURM_JOB_ID" --rdzv_endpoint="$first:29500" \
    -m monai.bundle run \
    --config_file "['$BUNDLE/configs/train.json', '$BUNDLE/configs/multi_gpu.json']" --bundle_root "$BUNDLE" \
    --dataset_dir "$DATA" --output_dir "$RUN" --cache_dir "$RUN/cache" --resume true
