"""MR (sentences of film reviews, two classes) with Kim's sentence CNN: the paper's experiment on this data set.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001).
Variants   the methods of docs/methods.md, but for cutmix:   --config=configs/mr.py:mixup
Data       python -m mixup_jax.data mr glove_6b_50d amazon_snippets nyt_snippets tweets
Command    python -m mixup_jax.main --config=configs/mr.py:mixup --workdir=runs/mr-mixup-0
Evaluate   python -m mixup_jax.evaluate --workdir=runs/mr-mixup-0

Where the numbers are from (they stand in `kim_sentences` of mixup_jax/recipes.py, if not below)
  The paper: Kim's sentence CNN with GloVe vectors that are trained on; mixing on the embedded words;
  the methods' numbers as for images.
  Kim (EMNLP 2014): filters of 3, 4 and 5 words with 100 maps each; dropout 0.5 in every variant (so the
  variant dropout is erm here: what it adds is Monte Carlo dropout when it is evaluated); length of a class's
  weights at most 3; batch 50; Adadelta (rho 0.95, epsilon 1e-6, rate 1); 25 epochs at most, the best on held-out
  sentences: evaluate with --checkpoint=best for the same.
  Ours: GloVe of length 50 (6B), the only one that a package index has; 300 is Kim's length. 60 tokens (the
  longest sentence has 56). The 20,000 commonest words of GloVe are in the vocabulary although no training
  sentence may have them: Kim's vocabulary is of all sentences, test too. A tenth of the sentences for
  test, as one of Kim's ten folds, and 950 for validation.
  The labels: where MR comes from PyPI, they are the sign of the sentence's mean rating, not the stars of
  the review, so numbers are not comparable with published ones (tf-idf and logistic regression reach
  about 0.80 here). With rt-polarity.neg and .pos in the manual folder (docs/data.md) they are the original ones.

Expected   mean +- standard deviation of seeds 0 to 4 (docs/results/README.md has the records), n = 1,056: accuracy
           0.778 +- 0.011 with ERM, 0.777 +- 0.007 with mixup; ECE-15 0.157 +- 0.005 and 0.106 +- 0.008. No number of
           the paper is known to us.
Cost       171 steps an epoch: about 2 minutes on one CPU core for 25 epochs.
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import kim_sentences


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = kim_sentences("mr", name)
    config.data.name = "mr"
    config.data.validation_examples = 950
    config.data.max_tokens = 60
    config.evaluation.ood = ("amazon_snippets", "nyt_snippets", "tweets", "random_tokens")
    return config
