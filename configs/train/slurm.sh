#!/bin/bash
# One run on several nodes, a task a GPU: sbatch --nodes 8 configs/train/slurm.sh CONFIG [key.path=value]…
# 300 s before the time limit Slurm sends SIGUSR1 to every rank; the run saves a checkpoint and leaves
# with code 75, and the job goes back into the queue. Data and output_dir must be seen by all nodes
# under the same path.
#SBATCH --job-name=worldpm
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

set -uo pipefail

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=29500 LOCAL_WORLD_SIZE=8 OMP_NUM_THREADS=8

# exec: the signal reaches the rank itself, and its exit code is the task's.
srun --kill-on-bad-exit=0 bash -c '
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
  exec worldpm train "$@"' rank "$@"
code=$?

if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$code"
