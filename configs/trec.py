"""TREC (questions by what they ask for, six classes) with Kim's sentence CNN: the paper's experiment on this data set.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001).
Variants   the methods of docs/methods.md, but for cutmix:   --config=configs/trec.py:mixup
Data       python -m mixup_jax.data trec glove_6b_50d
Command    python -m mixup_jax.main --config=configs/trec.py:mixup --workdir=runs/trec-mixup-0
Evaluate   python -m mixup_jax.evaluate --workdir=runs/trec-mixup-0

Where the numbers are from (they stand in `kim_sentences` of mixup_jax/recipes.py, if not below)
  As in configs/mr.py, which has the sources: Kim's sentence CNN (EMNLP 2014) with GloVe vectors that are trained
  on, mixing on the embedded words, dropout 0.5 in every variant, Adadelta, batch 50, 25 epochs at most.
  Ours: 40 tokens, more than almost any question has; 545 of the 5,452 training questions are held out for validation.
  With 500 test questions an ECE of many bins is mostly noise: read the noise floor beside it.

Expected   No number of the paper is known to us. Not yet run by this project: the data could not be had.
Cost       98 steps an epoch: minutes on a CPU, expected and not measured.
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import kim_sentences


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = kim_sentences("trec", name)
    config.data.name = "trec"
    config.data.validation_examples = 545
    config.data.max_tokens = 40
    config.evaluation.ood = ("mr", "random_tokens")
    return config
