import json
import re
from pathlib import Path

import pytest

from mixup_jax.config import Config, base_config, from_dict, to_dict
from mixup_jax.config_file import load_config, unscaled_steps
from mixup_jax.data.catalog import check_ood_name, dataset_spec
from mixup_jax.errors import InputError
from mixup_jax.methods.method import VARIANTS, Method

CONFIGS = Path(__file__).parents[1] / "configs"
QUICKSTART = f"{CONFIGS / 'quickstart.py'}:mixup"


def test_a_config_survives_the_way_through_json_and_configdict():
    config = Config(seed=3, epochs=7)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(base_config().to_dict()) == Config()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_config_has_every_method_as_a_variant(path: Path, name: str):
    config = load_config(f"{path}:{name}")
    assert config.method == VARIANTS[name].method
    assert config.experiment == f"{path.stem}/{name}"
    # Kim's sentence network has dropout whatever the method.
    plain = 0.5 if config.model.name == "text_cnn" else 0
    assert config.model.dropout == (plain or VARIANTS[name].dropout)


def test_every_kind_of_value_can_be_overridden():
    config = load_config(
        QUICKSTART,
        [
            "--config.seed=5",
            "--config.method.mixup_alpha=1",
            "--config.optimizer.step_epochs=(3,5)",
            "--config.evaluation.ood=('mnist',)",
            "--config.data.flip=true",
            "--config.notes=two words",
            "--config.parallel=pmap",
        ],
    )
    assert (config.seed, config.method.mixup_alpha, config.optimizer.step_epochs) == (5, 1.0, (3, 5))
    assert (config.evaluation.ood, config.data.flip) == (("mnist",), True)
    assert (config.notes, config.parallel) == ("two words", "pmap")


@pytest.mark.parametrize(
    ("overrides", "scaled"),
    [
        (["--config.epochs=1000"], "300,600,800"),
        (["--config.epochs=5"], "2,3,4"),
        (["--config.epochs=1"], "1"),
        (["--config.epochs=200"], None),
        (["--config.epochs=1000", "--config.optimizer.schedule=cosine"], None),
        (["--config.epochs=1000", "--config.optimizer.step_epochs=300,600"], None),
    ],
)
def test_steps_that_stay_when_the_epochs_change_are_told(overrides: list[str], scaled: str | None):
    paper = f"{CONFIGS / 'fashion_mnist.py'}:mixup"
    line = unscaled_steps(paper, load_config(paper, overrides))
    assert (line is None) == (scaled is None)
    if line is not None:
        assert "stays (60, 120, 160)" in line
        assert line.endswith(f"--config.optimizer.step_epochs={scaled}")


@pytest.mark.parametrize(
    ("value", "names"),
    [("mnist,kmnist", ("mnist", "kmnist")), ("mnist, kmnist", ("mnist", "kmnist")), ("", ()), ("()", ())],
)
def test_names_with_commas_between_are_a_tuple(value: str, names: tuple[str, ...]):
    assert load_config(QUICKSTART, [f"--config.evaluation.ood={value}"]).evaluation.ood == names


def test_a_single_name_or_number_serves_as_a_tuple_of_one():
    config = load_config(QUICKSTART, ["--config.evaluation.ood=mnist", "--config.optimizer.step_epochs=3"])
    assert (config.evaluation.ood, config.optimizer.step_epochs) == (("mnist",), (3,))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.sed=3"], "unknown config key 'sed' .did you mean 'seed'.*see docs/configuration.md for all"),
        (["--config.method.alpha=3"], "unknown config key 'method.alpha'"),
        (["--config.data=3"], "unknown config key 'data'"),
        (["--confg.seed=3"], "unknown argument '--confg.seed=3'"),
        (["--config.seed"], "--config.seed has no value"),
        (["--config.seed=x"], "--config.seed=x: invalid literal for int"),
        (["--config.epochs=2.5"], "--config.epochs=2.5"),
        (["--config.epochs=0"], "epochs is 0; expected at least 1"),
        (["--config.seed=-1"], "seed is -1"),
        (["--config.batch_size=0"], "batch_size is 0"),
        (["--config.method.mixup_alpha=-1"], "method.mixup_alpha is -1.0"),
        (["--config.method.mixup_alpha=nan"], "method.mixup_alpha is nan"),
        (["--config.method.label_smoothing=1"], "method.label_smoothing is 1.0"),
        (["--config.method.group_size=48"], "no whole number of mixing groups of 48"),
        (["--config.optimizer.schedule=linear"], "unknown optimizer.schedule 'linear'; choose one of: cosine, steps"),
        (["--config.optimizer.learning_rate=0"], "optimizer.learning_rate is 0.0"),
        (["--config.optimizer.step_epochs=(5,3)"], "optimizer.step_epochs is .5, 3.; expected increasing"),
        (["--config.optimizer.warmup_epochs=inf"], "optimizer.warmup_epochs is inf; expected a finite number"),
        (["--config.optimizer.step_epochs=soon"], "optimizer.step_epochs"),
        (["--config.model.dtype=float16"], "unknown model.dtype 'float16'"),
        (["--config.model.width=0"], "model.width is 0"),
        (["--config.parallel=both"], "unknown parallel 'both'"),
        (["--config.data.validation_examples=-1"], "data.validation_examples is -1"),
        (["--config.data.crop_padding=-1"], "data.crop_padding is -1"),
        (["--config.evaluation.ood=('mnist','mnist')"], "evaluation.ood is .*; expected each name once"),
    ],
)
def test_a_wrong_override_is_named_with_what_would_be_right(overrides: list[str], message: str):
    with pytest.raises(InputError, match=message):
        load_config(QUICKSTART, overrides)


def test_a_missing_file_and_an_unknown_variant_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"config file nowhere.py does not exist"):
        load_config("nowhere.py:mixup")
    with pytest.raises(InputError, match=r"unknown config variant 'mixpu'.*erl, erm, feature_only"):
        load_config(f"{CONFIGS / 'quickstart.py'}:mixpu")
    other = tmp_path / "other.py"
    other.write_text("def get_config():\n    return 3\n")
    with pytest.raises(InputError, match=r"get_config of .*other.py returned"):
        load_config(str(other))
    other.write_text("def get_config():\n    raise ValueError('too many cooks')\n")
    with pytest.raises(InputError, match=r"config file .*other.py failed with ValueError: too many cooks"):
        load_config(str(other))
    other.write_text("def get_config(:\n")
    with pytest.raises(InputError, match=r"config file .*other.py failed with SyntaxError: invalid syntax"):
        load_config(str(other))
    other.write_text("import nothing_of_that_name\n")
    with pytest.raises(InputError, match=r"failed with ModuleNotFoundError: No module named 'nothing_of_that_name'"):
        load_config(str(other))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": "3"}, r"config key seed is '3' \(str\); expected a value of type int"),
        ({"seed": True}, r"config key seed is True \(bool\)"),
        ({"data": 3}, "config key data is 3; expected a group of keys"),
        ({"data": {"nam": "mnist"}}, "unknown config key 'data.nam' .did you mean 'data.name'"),
        ({"optimizer": {"step_epochs": [1.5]}}, r"config key optimizer.step_epochs\[0\] is 1.5"),
        ({"evaluation": {"ood": "mnist"}}, "config key evaluation.ood is 'mnist'; expected a tuple"),
    ],
)
def test_a_config_of_wrong_types_is_refused(values: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        from_dict(values)


def test_the_documentation_lists_every_key_with_its_default():
    def flat(values: dict[str, object], prefix: str = "") -> dict[str, str]:
        pairs: dict[str, str] = {}
        for key, value in values.items():
            pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: repr(value)}
        return pairs

    text = (CONFIGS.parent / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `(.+?)` \|", text, flags=re.MULTILINE))
    assert rows == flat(to_dict(Config()))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_set_that_a_header_recommends_is_accepted(path: Path):
    if not (name := load_config(str(path)).data.name):
        return  # configs/own.py leaves it to the command line
    spec = dataset_spec(name)
    for names in re.findall(r"--datasets=(\S+)", path.read_text()):
        for name in names.split(","):
            check_ood_name(name, spec)


def test_what_other_versions_recorded_is_read_without_the_keys_that_are_unknown_here():
    recorded = to_dict(Config(seed=3)) | {"derived": {"ensemble": 3}}
    recorded["method"] = {"mixup_alpha": 0.4, "a_later_number": 1.0}
    config = from_dict(recorded, unknown="ignore")
    assert (config.seed, config.method) == (3, Method(mixup_alpha=0.4))
    with pytest.raises(InputError, match="a_later_number"):
        from_dict({"method": recorded["method"]})
    with pytest.raises(InputError, match="expected a value of type int"):
        from_dict({"epochs": "30"}, unknown="ignore")
