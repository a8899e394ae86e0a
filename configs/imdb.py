"""IMDB (whole film reviews, two classes) with Kim's sentence CNN: the paper's experiment on this data set.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001).
Variants   the methods of docs/methods.md, but for cutmix:   --config=configs/imdb.py:mixup
Data       python -m mixup_jax.data imdb glove_6b_50d
Command    python -m mixup_jax.main --config=configs/imdb.py:mixup --workdir=runs/imdb-mixup-0
Evaluate   python -m mixup_jax.evaluate --workdir=runs/imdb-mixup-0

Where the numbers are from (they stand in `kim_sentences` of mixup_jax/recipes.py, if not below)
  As in configs/mr.py, which has the sources: Kim's sentence CNN (EMNLP 2014) with GloVe vectors that are trained
  on, mixing on the embedded words, dropout 0.5 in every variant, Adadelta, batch 50, 25 epochs at most.
  Ours: 400 tokens (most reviews are shorter; of the others the end is cut off);
  2,500 of the 25,000 training reviews are held out for validation.

Expected   No number of the paper is known to us. Not yet run by this project: the data could not be had.
Cost       450 steps an epoch of seven times MR's length: hours on a CPU, minutes on an accelerator (not measured).
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import kim_sentences


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = kim_sentences("imdb", name)
    config.data.name = "imdb"
    config.data.validation_examples = 2500
    config.data.max_tokens = 400
    config.evaluation.ood = ("trec", "random_tokens")
    return config
