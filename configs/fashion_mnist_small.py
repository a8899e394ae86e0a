"""The paper's Fashion-MNIST experiment at a size that two CPU cores can do with several seeds.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001).
Variants   the methods of docs/methods.md:   --config=configs/fashion_mnist_small.py:mixup
Command    python -m mixup_jax.main --config=configs/fashion_mnist_small.py:mixup --workdir=runs/fms-mixup-0
Evaluate   python -m mixup_jax.evaluate --workdir=runs/fms-mixup-0

As in configs/fashion_mnist.py (which has the sources): ResNet-18, SGD with Nesterov momentum 0.9, learning rate
0.1, weight decay 5e-4, and the numbers of every method.
Different, and why
  width 8 instead of 64 (176,000 parameters instead of 11 million): the cost.
  5,000 training images instead of 60,000, 16 epochs instead of 200, batch 64 instead of 128: the cost.
  No crops and flips: with so few epochs an augmented network does not fit its training set, and the paper is about
    networks that do. Chosen on validation images of seed 0 (ERM: training loss 0.007, ECE-15 0.067).
  Cosine schedule instead of steps: no step epochs are published for so short a run.
  The network of the last epoch is reported, not that of the best test epoch.

Expected   docs/results/fashion_mnist_small has the records and the table.
Cost       80,000 images a run: about 3 minutes on one core.
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import recipe

NOTES = (
    "The paper's Fashion-MNIST experiment made small: ResNet-18 of width 8, 5,000 training images without "
    "augmentation, 16 epochs, cosine schedule. Accuracies are far below the paper's setting, and calibration errors "
    "are not to be compared with it; what can be compared is one method with another."
)


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = recipe("fashion_mnist_small", name)
    config.notes = NOTES

    config.epochs = 16
    config.batch_size = 64

    config.data.name = "fashion_mnist"
    config.data.train_examples = 5000
    config.data.validation_examples = 2000
    config.data.crop_padding = 0
    config.data.flip = False

    config.model.name = "resnet18"
    config.model.width = 8

    config.optimizer.schedule = "cosine"

    config.evaluation.every_epochs = 2
    config.evaluation.ood = ("mnist", "gaussian_noise")
    config.evaluation.ood_examples = 2000
    config.evaluation.record_epochs = (0, 2, 4, 8, 16)
    return config
