"""Job scripts with one mistake each, and right ones.

`{home}` is where the tests' trainings are; each wrong one, corrected, is a chain. Written as people write them: no script is here for the sake of a rule's pattern alone.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = "#!/bin/bash\n#SBATCH --job-name=count --time=5\n#SBATCH --output=%x_%j.out\n"
SHORT = "--time-limit 26s --margin 20s"
OPTIONS = f"--checkpoint ck {SHORT}"
OWN = f"#CKPTRUN {OPTIONS}\n"
# Two steps, each of which lasts until it is asked: three links, however busy the machine is.
COUNT = "python {home}/counter.py"
TRAIN = f"{COUNT} ck 2 1000 --hear USR1"
CHAIN = f"exec ckptrun {OPTIONS} {TRAIN}\n"


class Wrong(NamedTuple):
    """A script with one mistake: the rule that finds it, and a piece of the line where it stands."""

    rule: str
    at: str
    text: str


def head(*lines: str) -> str:
    """Return a script's first lines with these in place of the usual options."""
    return "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines)


WRONG = {
    # --- what the script runs
    "no exec": Wrong("no-exec", "ckptrun --", f"{HEAD}ckptrun {OPTIONS} {TRAIN}\n"),
    "no exec, then echo": Wrong("no-exec", "ckptrun --", f"{HEAD}echo start\nckptrun {OPTIONS} {TRAIN}\necho end\n"),
    "no exec, then work": Wrong("no-exec", "ckptrun --", f"{HEAD}ckptrun {OPTIONS} -- {TRAIN}\ncp -r ck kept\n"),
    "no exec, a module": Wrong("no-exec", "-m ckptrun", f"{HEAD}python -m ckptrun run {OPTIONS} {TRAIN}\n"),
    "no exec, in a branch": Wrong("no-exec", "ckptrun --", f"{HEAD}if true; then\n    ckptrun {OPTIONS} {TRAIN}\nfi\n"),
    "no exec, continued": Wrong("no-exec", "ckptrun --", f"{HEAD}# training\nA=1 ckptrun {OPTIONS} \\\n    {TRAIN}\n"),
    "trap, srun in front": Wrong("trap-foreground", "trap", f"{HEAD}{OWN}trap 'touch stop' USR1\nsrun -n1 {TRAIN}\n"),
    "trap, a function": Wrong(
        "trap-foreground", "trap", f"{HEAD}{OWN}save() {{\n    touch stop\n}}\ntrap save SIGUSR1 SIGTERM\n{TRAIN}\necho over\n"
    ),
    "trap that requeues": Wrong(
        "trap-resubmits", "trap", f'{HEAD}{OWN}trap "scontrol requeue $SLURM_JOB_ID; exit 0" TERM\nsrun -n1 {TRAIN}\n'
    ),
    "trap that resubmits": Wrong("trap-resubmits", "trap", f"{HEAD}{OWN}trap 'sbatch $0' USR1\n{TRAIN}\n"),
    "handler that requeues": Wrong(
        "trap-resubmits",
        "trap requeue",
        f"{HEAD}{OWN}again() {{ scontrol requeue $SLURM_JOB_ID; }}\nrequeue() {{\n    echo near the limit\n    again\n}}\n"
        f"trap requeue USR1 TERM\n{TRAIN} &\nwait $!\n",
    ),
    "trap lost to exec": Wrong("trap-exec", "trap", f"{HEAD}trap 'rm -rf scratch' EXIT\n{CHAIN}"),
    "sbatch of itself": Wrong("own-submission", "sbatch", f'{HEAD}{OWN}{TRAIN}\nsbatch "$0"\n'),
    "sbatch by name": Wrong("own-submission", "sbatch job", f"{HEAD}{OWN}{TRAIN}\n[ -e finished ] || sbatch job.sh\n"),
    "sbatch first": Wrong(
        "own-submission", "sbatch --dep", f"{HEAD}{OWN}sbatch --dependency=afterany:$SLURM_JOB_ID next.sh\nsrun -n1 {TRAIN}\n"
    ),
    "sbatch by variable": Wrong(
        "own-submission", 'sbatch "', f'{HEAD}{OWN}SELF=$(realpath "$0")\n{TRAIN}\nif [ ! -e done ]; then\n    sbatch "$SELF"\nfi\n'
    ),
    "requeue after": Wrong("own-submission", "requeue", f"{HEAD}{OWN}{TRAIN} || scontrol requeue ${{SLURM_JOB_ID}}\n"),
    "tee": Wrong("tee", "tee", f"{HEAD}{OWN}{TRAIN} 2>&1 | tee train.log\n"),
    "tee behind exec": Wrong("tee", "tee", f"{HEAD}exec ckptrun {OPTIONS} {TRAIN} |& tee -a train.log\n"),
    "tee, continued": Wrong("tee", "tee", f"{HEAD}{OWN}set -e\nsrun -n1 {TRAIN} \\\n    | tee train.log\n"),
    "bash -c": Wrong("shell-text", "bash -c", f'{HEAD}exec ckptrun {OPTIONS} bash -c "export A=1; {TRAIN}"\n'),
    "bash -ec": Wrong("shell-text", "bash -ec", f"{HEAD}{OWN}env bash -ec 'export A=\"a b\" && {TRAIN}'\n"),
    "bash -c, more lines": Wrong(
        "shell-text", "python", f'{HEAD}exec ckptrun {OPTIONS} bash -c "\n  echo \\"start\\"\n  {TRAIN}\n"\n'
    ),
    "background": Wrong("background", "&", f"{HEAD}{OWN}{TRAIN} &\n"),
    "restart count": Wrong(
        "restart-count",
        "RESTART",
        f'{HEAD}{OWN}if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then\n    echo again\nfi\n{TRAIN}\n',
    ),
    "restart count in a variable": Wrong(
        "restart-count", "n=${", f"{HEAD}n=${{SLURM_RESTART_COUNT:-0}}\nif (( n > 0 )); then echo again; fi\n{CHAIN}"
    ),
    "restarts of the record": Wrong(
        "restart-count",
        "scontrol",
        f"{HEAD}{OWN}restarts=$(scontrol show job $SLURM_JOB_ID | grep -o 'Restarts=[0-9]*' | cut -d= -f2)\n"
        f'if [ "$restarts" -gt 0 ]; then echo again; fi\n{TRAIN}\n',
    ),
    "nothing on the right": Wrong("comparison", "-gt ]", f"{HEAD}n=3\nif [ $n -gt ]; then echo again; fi\n{CHAIN}"),
    "nothing to equal": Wrong("comparison", "==", f'{HEAD}{OWN}[[ "$MODE" == ]] && echo plain\n{TRAIN}\n'),
    "nothing on the left": Wrong("comparison", "[ -lt", f"{HEAD}{OWN}if test -d ck; then :; fi\n[ -lt 3 ] || echo no\n{TRAIN}\n"),
    # --- what sbatch reads
    "no time": Wrong("no-time", "--output", head("--job-name=count", "--output=%x_%j.out") + CHAIN),
    "too long": Wrong("over-time", "--time", head("--job-name=count", "--time=3-00:00:00", "--output=%x_%j.out") + CHAIN),
    "too long, in minutes": Wrong("over-time", "-t 1440", head("-J count", "-t 1440 -o %x_%j.out") + CHAIN),
    "too many GPUs": Wrong("over-gpus", "--gres", HEAD + "#SBATCH --gres=gpu:8\n" + CHAIN),
    "too many GPUs, a comment": Wrong("over-gpus", "--gpus", HEAD + "#SBATCH --gpus=6 # six\n" + OWN + TRAIN + "\n"),
    "an account": Wrong("not-allowed", "--account", HEAD + "#SBATCH --account=students --gres=gpu:1\n" + CHAIN),
    "too many CPUs": Wrong("over-advice", "--cpus", HEAD + "#SBATCH --gres=gpu:1 --cpus-per-task=40\n" + CHAIN),
    "too much memory": Wrong("over-advice", "--mem", HEAD + "#SBATCH --gres=gpu:2\n#SBATCH --mem=100G\n" + CHAIN),
    "fixed log": Wrong("fixed-log", "my_job", head("--job-name=count --time=5", "--output=my_job.out") + CHAIN),
    "fixed log by name": Wrong("fixed-log", "%x", head("--job-name=count --time=5 --output=%x.out") + OWN + TRAIN + "\n"),
    "fixed log, short": Wrong("fixed-log", "-o", head("--job-name=count --time=5", "-o my.job.out") + CHAIN),
    "fixed errors": Wrong("fixed-log", "--error", f"{HEAD}#SBATCH --error=errors.out\n{CHAIN}"),
    "no log folder": Wrong("log-folder", "logs/", head("--job-name=count --time=5", "--output=nowhere/logs/%x_%j.out") + CHAIN),
    "no working folder": Wrong("chdir", "--chdir", f"{HEAD}#SBATCH --chdir=nowhere\n{CHAIN}"),
    "singleton": Wrong("singleton", "singleton", f"{HEAD}#SBATCH --dependency=singleton\n{CHAIN}"),
    "deadline": Wrong("deadline", "--deadline", f"{HEAD}#SBATCH --deadline=now+1hour --nodes=1\n{CHAIN}"),
    "DOS": Wrong("crlf", "#!/bin", (HEAD + CHAIN).replace("\n", "\r\n")),
    "no first line": Wrong("shebang", "SBATCH --job", (HEAD + CHAIN).removeprefix("#!/bin/bash\n")),
    "option too late": Wrong("late-option", "--ntasks", f"{HEAD}echo start\n#SBATCH --ntasks=1\n{CHAIN}"),
    "own option too late": Wrong("late-option", "#CKPTRUN --m", f"{HEAD}{OWN}echo start\n#CKPTRUN --max-links 9\n{TRAIN}\n"),
    "no such option": Wrong("sbatch-option", "--ntaks", f"{HEAD}#SBATCH --ntaks=1\n{CHAIN}"),
    "no such own option": Wrong("own-option", "--chekpoint", f"{HEAD}exec ckptrun --chekpoint ck {SHORT} {TRAIN}\n"),
    "no such own option in a line": Wrong("own-option", "--max-link", f"{HEAD}{OWN}#CKPTRUN --max-link 9\n{TRAIN}\n"),
    # --- where checkpoints are
    "a folder by chance": Wrong(
        "random-folder",
        "RANDOM",
        f'{HEAD}CK=ck_$RANDOM\nexec ckptrun --checkpoint "$CK" {SHORT} {COUNT} "$CK" 2 1000 --hear USR1\n',
    ),
    "a temporary folder": Wrong(
        "random-folder",
        "mktemp",
        f'{HEAD}RUN=$(mktemp -d runs.XXXX)\nexec ckptrun --checkpoint "$RUN/ck" {SHORT} {COUNT} "$RUN/ck" 2 1000 --hear USR1\n',
    ),
    "a folder of the day": Wrong(
        "random-folder",
        "date",
        f"{HEAD}OUT=out-$(date +%Y%m%d-%H%M%S)\nmkdir -p $OUT\ncd $OUT || exit 1\n{CHAIN}",
    ),
    "the job's folder": Wrong(
        "job-id-folder", "mkdir", f'{HEAD}mkdir -p "run_$SLURM_JOB_ID" && cd "run_$SLURM_JOB_ID" || exit 1\n{CHAIN}'
    ),
    "the job's checkpoints": Wrong(
        "job-id-folder",
        "CK=",
        f"{HEAD}mkdir -p ck\nCK=ck/${{SLURM_JOBID}}\nexec ckptrun --checkpoint $CK {SHORT} {COUNT} $CK 2 1000 --hear USR1\n",
    ),
    "a local disk": Wrong(
        "local-disk", "/tmp/ck", f"{HEAD}exec ckptrun --checkpoint /tmp/ck {SHORT} {COUNT} /tmp/ck 2 1000 --hear USR1\n"
    ),
    "a local disk in a variable": Wrong(
        "local-disk",
        "CKPT=",
        f'{HEAD}export CKPT="$SLURM_TMPDIR/ck"\nexec ckptrun --checkpoint "$CKPT" {SHORT} {COUNT} "$CKPT" 2 1000 --hear USR1\n',
    ),
    "memory": Wrong(
        "local-disk",
        "#CKPTRUN",
        f"{HEAD}#CKPTRUN --checkpoint /dev/shm/ck {SHORT}\n{COUNT} /dev/shm/ck 2 1000 --hear USR1\n",
    ),
    "tasks share a folder": Wrong("shared-by-tasks", "exec", f"{HEAD.replace('%j', '%A_%a')}#SBATCH --array=1-2\n{CHAIN}"),
}

RIGHT = {
    "the first screen": "#!/bin/bash\n#SBATCH --job-name=mnist --time=12:00:00 --gres=gpu:1 --output=%x_%j.out\n"
    "exec ckptrun --checkpoint checkpoints/ singularity exec --nv /ceph/container/pytorch/pytorch_24.09.sif python train.py\n",
    "plain": f"{HEAD}{OWN}{TRAIN}\n",
    "an environment": f"{HEAD}module purge\nmodule load cuda/12.1\nsource ~/venv/bin/activate\nexport OMP_NUM_THREADS=4\nnvidia-smi\n{CHAIN}",
    "clean-up": f"{HEAD}{OWN}set -euo pipefail\ntrap 'rm -rf \"$SCRATCH_DIR\"' EXIT\nSCRATCH_DIR=$(mktemp -d)\n{TRAIN}\necho over\n",
    "a trap as it should be": f"{HEAD}{OWN}trap 'kill -USR1 \"$pid\"' USR1\n{TRAIN} &\npid=$!\nwait $pid\nwait $pid\n",
    "ignored signals": f"{HEAD}{OWN}trap '' HUP\ntrap - TERM\nsrun -n1 {TRAIN}\n",
    "srun": f"{HEAD}#SBATCH --nodes=1 --ntasks-per-node=2 --gres=gpu:2 --cpus-per-task=15 --mem=48G\nexec ckptrun --checkpoint ck srun ckptrun torchrun --nnodes 1 train.py\n",
    "an array": f"{HEAD}#SBATCH --array=1-4%2\nexec ckptrun --checkpoint ck-%a python train.py --out ck-$SLURM_ARRAY_TASK_ID\n",
    "an array in a variable": f'{HEAD}#SBATCH --array=1-4\nD="runs/$SLURM_ARRAY_TASK_ID"\nexec ckptrun --checkpoint "$D" python t.py "$D"\n',
    "another job": f"{HEAD}{OWN}{TRAIN}\nsbatch evaluate.sh ck\n",
    "scratch": f"{HEAD}export TMPDIR=$(mktemp -d)\nexport TRITON_CACHE_DIR=/tmp/$USER/triton\n{CHAIN}",
    "a port": f"{HEAD}export MASTER_PORT=$((10000 + RANDOM % 20000))\nexec ckptrun --checkpoint ck torchrun --rdzv-id $SLURM_JOB_ID "
    "--rdzv-endpoint localhost:$MASTER_PORT train.py\n",
    "a port by the job": f"{HEAD}PORT=$(expr 10000 + $(echo -n $SLURM_JOBID | tail -c 4))\n"
    'MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
    "exec ckptrun --checkpoint ck srun ckptrun torchrun --rdzv-endpoint $MASTER:$PORT train.py\n",
    "a document": f"{HEAD}cat > note.txt <<'EOF'\nckptrun python x.py\ntrap 'sbatch $0' TERM\nsbatch $0 | tee log\n[ $n -gt ]\nEOF\n{CHAIN}",
    "comments": f"{HEAD}# ckptrun python train.py; sbatch $0\n##SBATCH --deadline=now\n#SBATCH --nodes=1 # --dependency=singleton\n{CHAIN}",
    "tee of something else": f'{HEAD}nvidia-smi | tee gpu.txt\necho "a | tee b"\n{CHAIN}',
    "tee that tells the truth": f"{HEAD}{OWN}set -o pipefail\n{TRAIN} 2>&1 | tee -a train.log\n",
    "one log": f"{head('--job-name=count --time=5', '--output=train.log --open-mode=append')}{CHAIN}",
    "a log by task": f"{head('--time=5 --array=1-2', '-o logs/%A_%a.out', '-e /dev/null')}exec ckptrun --checkpoint ck-%a python t.py\n",
    "bash -c with exec": f'{HEAD}exec ckptrun {OPTIONS} bash -c "source venv/bin/activate && exec python train.py"\n',
    "bash -c of one": f'{HEAD}exec ckptrun {OPTIONS} bash -c "python train.py --epochs 3"\n',
    "a container": f"{HEAD}exec ckptrun --checkpoint ck singularity exec --nv -B ~/venv:/scratch/venv image.sif /bin/bash -c "
    '"source /scratch/venv/bin/activate && exec python train.py"\n',
    "data on the node": f"{HEAD}mkdir -p /tmp/$SLURM_JOB_ID\ncp -r data /tmp/$SLURM_JOB_ID/\n"
    "exec ckptrun --checkpoint ck python train.py --data /tmp/$SLURM_JOB_ID/data --out ck\n",
    "two branches": f'{HEAD}if [ -n "$DEBUG" ]; then\n  exec ckptrun --checkpoint ck python -X dev train.py\nelse\n  {CHAIN}fi\n',
    "told counts": f'{HEAD}echo "restart $SLURM_RESTART_COUNT of job $SLURM_JOB_ID"\n{CHAIN}',
    "logs by job": f"{HEAD}exec ckptrun --checkpoint ck python train.py --log-dir tensorboard/$SLURM_JOB_ID --name run-$SLURM_JOB_ID\n",
    "much shell": f'{HEAD}set -e\nlog() {{ printf "%s %s\\n" "$(date +%T)" "$*"; }}\nargs=(--lr 1e-3 --name "a b")\nfor f in a b; do log $f; done\n'
    'case "$1" in\n  long) args+=(--epochs 90) ;;\n  *) : ;;\nesac\nwhile [ ! -e data ]; do sleep 1; done\n'
    f'exec ckptrun {OPTIONS} python train.py "${{args[@]}}" > >(cat) 2>&1\n',
    "comparisons": f'{HEAD}if [ "$1" = "" ] || [ -z "$2" ] || [[ $3 -gt 2 ]] || test 1 -lt 2; then echo x; fi\n[ -n "$A" -a "$B" != "-gt" ]\n{CHAIN}',
    "waits for another": f"{HEAD}#SBATCH --dependency=afterok:1234 --begin=now+1minute\n{CHAIN}",
    "python": f"#!/usr/bin/env python3\n#SBATCH --time=5 --output=%j.out\n{OWN}import os\nprint('sbatch $0 | tee log', os.environ['SLURM_JOB_ID'])\n",
    "continued": f"{HEAD}exec ckptrun \\\n  --checkpoint ck \\\n  --resume-flag '--from {{checkpoint}}' \\\n  python train.py \\\n  --lr 1e-3\n",
    "a server beside": f"{HEAD}{OWN}python serve.py --port 8080 &\nserver=$!\n{TRAIN}\nkill $server\n",
}
