"""TREC (questions by what they ask for, six classes) with Kim's sentence CNN: the paper's experiment on this data set.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001).
Variants   the names of `method.VARIANTS` (cutmix is for images alone):   --config=configs/trec.py:mixup
Data       python -m mixup_jax.data trec glove_6b_50d
Command    python -m mixup_jax.main --config=configs/trec.py:mixup --workdir=runs/trec-mixup-0
Evaluate   python -m mixup_jax.evaluate --workdir=runs/trec-mixup-0

Where the numbers are from
  As in configs/mr.py, which has the sources: Kim's sentence CNN (EMNLP 2014) with GloVe vectors that are trained
  on, mixing on the embedded words, dropout 0.5 in every variant, Adadelta, batch 50, 25 epochs at most.
  Ours: 40 tokens, more than almost any question has; 545 of the 5,452 training questions are held out for validation.
  With 500 test questions an ECE of many bins is mostly noise: read the noise floor beside it.

Expected   No number of the paper is known to us. Not yet run by this project: the data could not be had.
Cost       98 steps an epoch: minutes on a CPU.
"""

from ml_collections import ConfigDict

from mixup_jax.config import apply_variant, base_config


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a variant, a name of `method.VARIANTS`."""
    config = base_config()
    config.experiment = f"trec/{name}"

    config.epochs = 25
    config.batch_size = 50

    config.data.name = "trec"
    config.data.validation_examples = 545
    config.data.crop_padding = 0
    config.data.flip = False
    config.data.max_tokens = 40
    config.data.vectors = "glove_6b_50d"
    config.data.vector_size = 50

    config.model.name = "text_cnn"
    config.model.width = 100
    config.model.filter_widths = (3, 4, 5)
    config.model.dropout = 0.5

    config.optimizer.name = "adadelta"
    config.optimizer.learning_rate = 1.0
    config.optimizer.weight_decay = 0.0
    config.optimizer.max_norm = 3.0
    config.optimizer.schedule = "steps"
    config.optimizer.step_epochs = ()

    config.evaluation.ood = ("mr", "random_tokens")
    apply_variant(config, name)
    return config
