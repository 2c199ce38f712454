#!/bin/bash
#SBATCH --job-name=pytorch-ddp
#SBATCH --time=12:00:00
#SBATCH --gres=gpu:2
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
# A log for each job: one name for all would be overwritten by the next job of the chain.
#SBATCH --output=%x_%j.out

# exec: ckptrun takes the place of this shell, because Slurm's signals reach the job's first process only.
exec ckptrun --checkpoint checkpoints \
    torchrun --standalone --nproc-per-node=2 \
    train.py checkpoints
