#!/bin/bash
#SBATCH --job-name=command
#SBATCH --time=12:00:00
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
# A log for each job: one name for all would be overwritten by the next job of the chain.
#SBATCH --output=%x_%j.out

# exec: ckptrun takes the place of this shell, because Slurm's signals reach the job's first process only.
exec ckptrun --checkpoint checkpoints \
    ./my_program
