"""Networks from outside of the package: the examples of docs/own-network.md, and what breaks the contract."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main as evaluate
from mixup_jax.main import main as train
from mixup_jax.models import check_model, model_of
from mixup_jax.models.own import check_contract
from mixup_jax.prediction.served import write_artefacts

PAGE = Path(__file__).parents[1] / "docs" / "own-network.md"
IMAGE = jax.ShapeDtypeStruct((12, 12, 1), jnp.float32)


def options(command: str) -> list[str]:
    """The arguments of a command of the page."""
    return command.split()[3:]


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the page's examples as the module that it says, in the working folder."""
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "my_networks.py").write_text("\n\n".join(examples))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_networks", None)


@pytest.mark.usefixtures("networks")
def test_the_commands_of_the_page_train_and_evaluate_its_network(data_dir: Path):
    training, judging = map(options, re.findall(r"^python -m .*", PAGE.read_text(), re.MULTILINE))
    few = ["data.train_examples=200", "data.validation_examples=70", "epochs=1", "tensorboard=False"]
    changes = [f"--config.{setting}" for setting in (*few, "method.layer=random")]
    assert train([*training, *changes, f"--data_dir={data_dir}"]) == 0
    assert evaluate([*judging, f"--data_dir={data_dir}", "--datasets=mnist"]) == 0
    config = json.loads(Path("runs/own/config.json").read_text())
    assert (config["model"]["name"], config["model"]["settings"]) == ("my_networks:Patches", ["depth=2"])
    assert "fashion_mnist/test" in json.loads(Path("runs/own/evaluation.json").read_text())["results"]


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize(("name", "hidden"), [("Patches", True), ("Wrapped", False), ("FromNnx", False)])
def test_the_examples_keep_to_the_contract(name: str, hidden: bool):
    model = model_of(ModelConfig(name=f"my_networks:{name}"), classes=3)
    params = check_contract(name, model, IMAGE, 3, hidden=hidden, mapped=False)
    assert jax.tree.leaves(params)


@pytest.mark.usefixtures("networks")
def test_settings_are_values_of_fields():
    config = ModelConfig(name="my_networks:Patches", settings=("depth=2",), width=8, dropout=0.5, dtype="bfloat16")
    model = model_of(config, classes=3, axis_name="devices")
    assert (model.depth, model.width, model.classes, model.dropout) == (2, 8, 3, 0.5)
    assert (model.dtype, model.axis_name, config.label) == (jnp.bfloat16, "devices", f"{config.name}, depth=2")
    with pytest.raises(InputError, match=r"unknown setting of my_networks:Patches 'dept' .did you mean 'depth'"):
        check_model(ModelConfig(name="my_networks:Patches", settings=("dept=2",)))
    with pytest.raises(InputError, match=r"model.settings holds 'depth'; expected KEY=VALUE"):
        check_model(ModelConfig(name="my_networks:Patches", settings=("depth",)))
    with pytest.raises(InputError, match=r"model.settings holds 'width'; expected --config.model.width"):
        check_model(ModelConfig(name="my_networks:Patches", settings=("width=2",)))
    with pytest.raises(InputError, match=r"model.hidden is 8; expected 0: my_networks:Patches has no such option"):
        check_model(ModelConfig(name="my_networks:Patches", hidden=8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Net", r"importing 'no_such_module' fails with ModuleNotFoundError.*expected package.module:C"),
        ("flax.linen:Nothing", r"unknown class of flax.linen 'Nothing'"),
        ("flax.nnx:Linear", r"'flax.nnx:Linear', which is no flax.linen.Module; expected one, which may wrap"),
        ("flax.linen:Dense", r"but it has no field 'classes'; expected the number of logits"),
        ("test_own_network:Bare", r"it has no value for size; expected --config.model.settings=size=VALUE"),
    ],
)
def test_a_class_that_is_no_network_is_named(name: str, message: str):
    with pytest.raises(InputError, match=message):
        check_model(ModelConfig(name=name))


def test_a_setting_may_be_a_tuple_or_a_word():
    settings = ("size=(1", "2)", "word=gelu")  # as the command line cuts them
    model = model_of(ModelConfig(name="test_own_network:Bare", settings=settings), classes=2)
    assert (model.size, model.word) == ((1, 2), "gelu")


class Bare(nn.Module):
    classes: int
    size: Any
    word: str = ""


class Plain(nn.Module):
    """Keeps to the contract; others break it in one point."""

    classes: int = 3

    def body(self, x: Any, train: bool) -> Any:
        return nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))

    @nn.compact
    def __call__(self, x: Any, *, train: bool, mix: Any = None, dropout_keys: Any = None) -> Any:
        x = self.body(x if mix is None else mix(x, 0), train)
        return self.last(x.mean(axis=(1, 2)), mix)

    def last(self, x: Any, mix: Any) -> Any:
        return nn.Dense(self.classes)(x)


class NoTrain(Plain):
    @nn.compact
    def __call__(self, x: Any, *, mix: Any = None, dropout_keys: Any = None) -> Any:
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


class NoKeys(Plain):
    @nn.compact
    def __call__(self, x: Any, *, train: bool, mix: Any = None) -> Any:
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


class ForgetsTrain(Plain):
    def body(self, x: Any, train: bool) -> Any:
        return nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x))


class AlwaysTrains(Plain):
    def body(self, x: Any, train: bool) -> Any:
        return nn.BatchNorm(use_running_average=False)(nn.Conv(4, (3, 3))(x))


class SaysNothing(Plain):
    def body(self, x: Any, train: bool) -> Any:
        return nn.BatchNorm()(nn.Conv(4, (3, 3))(x))


class NeverMixes(Plain):
    @nn.compact
    def __call__(self, x: Any, *, train: bool, mix: Any = None, dropout_keys: Any = None) -> Any:
        return self.last(self.body(x, train).mean(axis=(1, 2)), mix)


class Flat(Plain):
    def last(self, x: Any, mix: Any) -> Any:
        return nn.Dense(1)(x)[:, 0]


class Half(Plain):
    def last(self, x: Any, mix: Any) -> Any:
        return nn.Dense(self.classes, dtype=jnp.bfloat16)(x)


class Pair(Plain):
    def last(self, x: Any, mix: Any) -> Any:
        return nn.Dense(self.classes)(x), x


class Cached(Plain):
    def last(self, x: Any, mix: Any) -> Any:
        self.variable("cache", "seen", jnp.zeros, ())
        return nn.Dense(self.classes)(x)


class Skips(Plain):
    places = 2

    def last(self, x: Any, mix: Any) -> Any:
        return nn.Dense(self.classes)(x if mix is None else mix(x, 2))


BROKEN = [
    (NoTrain, r"its call has no argument 'train'; expected __call__.self, x, \*, train, mix=None"),
    (NoKeys, r"its call has no argument 'dropout_keys'"),
    (ForgetsTrain, r"train has no effect on it; expected batch normalisation with use_running_average=not train"),
    (AlwaysTrains, r"call with train=False changes its variables; expected batch normalisation with use_running_ave"),
    (SaysNothing, r"its call fails with ValueError: .*use_running_average"),
    (NeverMixes, r"it calls mix at the places \[\]; expected x = mix.x, 0. once, before its first layer"),
    (Flat, r"its result for 2 rows is float32 \[2\]; expected logits, float32 \[2, 3\]"),
    (Half, r"its result for 2 rows is bfloat16 \[2, 3\]; expected logits, float32 \[2, 3\]"),
    (Pair, r"its result for 2 rows is <class 'tuple'>; expected logits"),
    (Cached, r"it has variables of the kind 'cache'; expected params and batch_stats alone"),
    (Skips, r"it calls mix at the places \[0, 2\], and its 'places' is 2; expected mix at 0, 1, .., places"),
]


@pytest.mark.parametrize(("network", "message"), BROKEN, ids=[network.__name__ for network, _ in BROKEN])
def test_what_a_network_lacks_is_said_in_one_line(network: type[nn.Module], message: str):
    with pytest.raises(InputError, match=message) as raised:
        check_contract("mine", network(), IMAGE, 3, hidden=network is Skips, mapped=False)
    assert "\n" not in str(raised.value)


def test_statistics_of_one_device_and_hidden_places_that_are_missing_are_refused():
    assert check_contract("mine", Plain(), IMAGE, 3, hidden=False, mapped=False)
    with pytest.raises(InputError, match=r"it has no field 'axis_name'; expected one .* or parallel=jit"):
        check_contract("mine", Plain(), IMAGE, 3, hidden=False, mapped=True)
    with pytest.raises(InputError, match=r"places \[0\], and its 'places' is missing; expected mix at 0, 1"):
        check_contract("mine", Plain(), IMAGE, 3, hidden=True, mapped=False)


@pytest.mark.parametrize(("size", "exported"), [(len, False), (lambda x: x.shape[0], True)])
def test_a_network_for_one_batch_size_is_refused_before_anything_is_written(size: Any, exported: bool, tmp_path: Path):
    config = SimpleNamespace(model=SimpleNamespace(name="nets:Own"))
    network = SimpleNamespace(config=config, variables={}, forward=lambda _, x, rows: x.reshape(size(x), -1))
    served = SimpleNamespace(network=network, input_shape=(2, 2, 1), outputs=lambda logits: {"logits": logits})
    with pytest.raises(InputError if not exported else AttributeError) as raised:  # facts that it lacks come after
        write_artefacts(served, tmp_path / "export", print)  # type: ignore[arg-type]
    assert (tmp_path / "export").exists() == exported
    if not exported:
        assert "'nets:Own', but it cannot be traced for any number of images (TypeError" in str(raised.value)
