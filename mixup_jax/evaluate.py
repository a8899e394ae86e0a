"""Judging a network: `mixup_jax.evaluate(logits, labels, ..)` in Python, `python -m mixup_jax.evaluate` as a command.

Neither loads jax or TensorFlow to judge logits that are there already.
"""

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, Flag, Mode, callable_module, names, path, paths, run_command
from mixup_jax.devices import cluster
from mixup_jax.escapes import print_line
from mixup_jax.evaluation.arrays import evaluate
from mixup_jax.evaluation.export import format_table
from mixup_jax.evaluation.extras import NAMES
from mixup_jax.evaluation.modes import evaluate_checkpoint, evaluate_files, evaluate_runs, evaluate_score_files
from mixup_jax.evaluation.recalibration import POSTHOC
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, GIB
from mixup_jax.runs.formats import FORMATS

EXAMPLES = """\
examples:
  # Anybody's logits [N, K] and labels [N], saved with numpy.savez("preds.npz", logits=..., labels=...):
  python -m mixup_jax.evaluate --predictions=preds.npz
  # With a temperature fitted on validation data, and two out-of-distribution sets:
  python -m mixup_jax.evaluate --predictions=test.npz --validation=val.npz --ood=mnist.npz --ood=noise.npz
  # Logits larger than memory (an .npy is memory-mapped), and results for a paper as well:
  python -m mixup_jax.evaluate --predictions=logits.npy --labels=labels.npy --output=e.json --output=e.tex
  # Probabilities in a table with the columns label, 0, 1, ..; two more calibration methods:
  python -m mixup_jax.evaluate --predictions=p.csv --validation=v.csv --probabilities --posthoc=vector_scaling,isotonic
  # Arrays with names of their own; pixels of segmentation:
  python -m mixup_jax.evaluate --predictions=out.pt --logits_key=outputs --labels_key=targets
  python -m mixup_jax.evaluate --predictions=pixels.npz --flatten --ignore_label=255
  # Without logits: confidences [N] in and out of distribution, and their histogram:
  python -m mixup_jax.evaluate --scores=test.npy --ood=other.npy --figure=confidences.png
  # An ensemble: the mean of the probabilities of files with commas between:
  python -m mixup_jax.evaluate --predictions=a.npz,b.npz,c.npz --ood=a-ood.npz,b-ood.npz,c-ood.npz
  # A run of mixup_jax.main, from its checkpoint alone:
  python -m mixup_jax.evaluate --workdir=runs/fm-mixup-0 --datasets=test,mnist,gaussian_noise --checkpoint=best
  # The same network predicting in another way, kept as a run of its own that the report can read:
  python -m mixup_jax.evaluate --workdir=runs/fm-dropout-0 --mc_dropout=10 --save_as=runs/fm-dropout-0+mc10
  # A deep ensemble of evaluated runs:
  python -m mixup_jax.evaluate --ensemble=runs/fm-mixup-0,runs/fm-mixup-1 --save_as=runs/fm-mixup-ensemble

All numbers are fractions, never percent; docs/metrics.md defines them.
"""
SAVE_AS = Flag("save_as", "DIR", "folder to write, which the report reads like a run's", type=path)
EXTRA = Flag("extra", "A,B", f"further analyses: {', '.join(NAMES)}", type=names)
FEATURES = Flag("features", None, "also score foreign data by penultimate features, in the files or of the network")
OOD = Flag("ood", "O[,O2]", "out-of-distribution file, labels not needed; repeatable", type=paths, repeats=True)
ALL_INTERVALS = Flag("all_intervals", None, "bootstrap adaptive, smooth and class-wise ECE as well (seconds more)")
OUTPUT = (
    Flag("output", "FILE", ".json, .md, .tex or .csv; repeatable; default: P.evaluation.json", type=path, repeats=True),
    Flag("max_gib", "X", f"most memory a file may take, except .npy; default: {DEFAULT_LIMIT / GIB:g}", type=float),
)
FILES = Mode("predictions", "evaluate files of predictions (starts at once; needs no accelerator)", evaluate_files, (
    Flag("predictions", "P[,P2]", f"test record: {', '.join(FORMATS)}; several: an ensemble", type=paths),
    Flag("labels", "L.npy", "labels [N] of --predictions=P.npy", type=path),
    Flag("validation", "V[,V2]", "held-out record to fit a temperature on", type=paths),
    Flag("validation_labels", "L.npy", "labels [N] of --validation=V.npy", type=path, needs="validation"),
    OOD,
    Flag("probabilities", None, "the files hold probabilities, not logits"),
    Flag("logits", None, "the files hold logits, even if they look like probabilities"),
    Flag("logits_key", "NAME", "what the files call the logits, or how names of class columns begin; default: tried"),
    Flag("labels_key", "NAME", "what the files call the labels; default: the usual names are tried"),
    Flag("flatten", None, "logits are [N, K, H, W], as of segmentation: each pixel is an example"),
    Flag("ignore_label", "L", "leave out the examples with this label, such as 255", type=int),
    ALL_INTERVALS,
    Flag("posthoc", "A,B", f"also fit on --validation: {', '.join(POSTHOC)}", type=names, needs="validation"),
    EXTRA,
    FEATURES,
    Flag("near", "A,B", "names of --ood sets near the data: means of these and of the others", type=names, needs="ood"),
    *OUTPUT,
))  # fmt: skip
SCORES = Mode("scores", "evaluate files of one number an example, without logits", evaluate_score_files, (
    Flag("scores", "S", "file with confidence [N] (and correct [N]) or score [N], high = foreign", type=path),
    OOD,
    Flag("figure", "FILE", "histogram of the confidences: .png, .svg or .pdf", type=path),
    ALL_INTERVALS,
    *OUTPUT,
))  # fmt: skip
RUN = Mode("workdir", "evaluate a checkpoint of a run", evaluate_checkpoint, (
    Flag("workdir", "DIR", "folder of the run; evaluation.json is written there", type=path),
    Flag("datasets", "A,B", "such as test,mnist,gaussian_noise,folder:PATH; default: those of the config", type=names),
    Flag("checkpoint", "last|best|STEP", "which checkpoint; default: last"),
    Flag("data_dir", "DIR", "where the prepared data sets are", type=path),
    Flag("odin", None, "also score with ODIN (takes gradients)"),
    EXTRA,
    FEATURES,
    Flag("force", None, "predict again even where records exist"),
    Flag("mc_dropout", "T", "mean of the probabilities of T dropout passes", type=int, needs="save_as"),
    Flag("batch_norm_examples", "N", "batch statistics of N clean training examples", type=int, needs="save_as"),
    SAVE_AS,
    *cluster.FLAGS,
))  # fmt: skip
ENSEMBLE = Mode("ensemble", "evaluate the mean of the probabilities of several runs", evaluate_runs, (
    Flag("ensemble", "A,B", "folders of evaluated runs", type=paths, needs="save_as"),
    SAVE_AS,
))  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments and returns its exit code, 0; InputError if they are wrong."""
    description = "Measures accuracy, calibration and out-of-distribution detection."
    parser = CommandParser(prog="python -m mixup_jax.evaluate", description=description, epilog=EXAMPLES)
    mode, given = parser.parse_mode(argv, (FILES, SCORES, RUN, ENSEMBLE))
    if mode is RUN:
        given["cluster"] = cluster.requested(given)
    document, written, notes = mode.run(**given)
    if document is not None:
        print("\n\n".join([format_table(document), *notes]), end="\n\n")
        print_line(f"written: {', '.join(map(str, written))}")
    return 0


callable_module(__name__, evaluate)

if __name__ == "__main__":
    sys.exit(run_command(main))
