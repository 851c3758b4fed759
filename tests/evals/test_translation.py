"""What is said of translations, and what stands in their table."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch

from micro_transformer.data.tokenizer import BOS, EOS
from micro_transformer.evals import sentences as translating
from micro_transformer.evals import translation
from micro_transformer.evals.translation import Translation, one_line
from micro_transformer.plots.alignment import alignment_map
from micro_transformer.plots.style import rendered
from micro_transformer.records.run_record import SAMPLE_MARK
from micro_transformer.stats import translation_metrics
from tests.evals.subjects import component, translation_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return translation_subject(tmp_path_factory.mktemp("translation"))


def run(subject, folder, **knobs):
    measure = Translation(**{"split": "val", "num": 12, "length": 6} | knobs)
    return dict(measure.run(replace(subject, folder=folder)))


def table(folder):
    lines = (folder / "translations.val.tsv").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    return [line.split("\t") for line in lines]


def stand_in(monkeypatch, write):
    """Translations are what `write` makes of the sources."""
    monkeypatch.setattr(
        translation, "translate", lambda model, tokenizer, sources, *rest, **more: write(sources)
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_right_translations_score_all_points(subject, tmp_path, monkeypatch, split):
    pairs = subject.task.sentences(split, 12)
    stand_in(monkeypatch, lambda sources: [of[-1] for _, of in pairs])
    found = run(subject, tmp_path, split=split)
    assert found[f"{split}/bleu"] == pytest.approx(100) == found[f"{split}/chrf"]
    assert found[f"{split}/exact"] == found[f"{split}/length_ratio"] == 1
    assert found[f"{split}/n"] == 12 and found[f"{split}/repetition"] in (0, None)
    assert all(name.startswith(f"{split}/") for name in found)


def test_the_table_has_each_source_with_what_was_written_and_its_references(
    subject, tmp_path, monkeypatch
):
    stand_in(monkeypatch, lambda sources: [f"{s}\t\x1b[31m\n tail" for s in sources])
    found = run(subject, tmp_path)
    pairs = subject.task.sentences("val", 12)
    head, *lines = table(tmp_path)
    assert head[:3] == ["source", "translation", "reference 1"] and len(lines) == 12
    for (source, references), line in zip(pairs, lines, strict=True):
        assert line[:2] == [one_line(source), f"{one_line(source)} [31m tail"]
        assert [text for text in line[2:] if text] == references
        assert len(line) == len(head)
    written = [line[1] for line in lines]
    references = [of for _, of in pairs]
    assert found["val/bleu"] == translation_metrics.score("bleu", written, references)[0]
    shown = (tmp_path / "samples.txt").read_text(encoding="utf-8")
    assert shown.count(SAMPLE_MARK) == 5 and "\x1b" not in shown
    assert all(f"translation: {text}\n" in shown for text in written[:5])


def test_scores_stand_beside_with_their_signatures(subject, tmp_path):
    found = run(subject, tmp_path)
    page = json.loads((tmp_path / "translation_scores.val.json").read_text())
    assert (page["split"], page["sources"]) == ("val", 12)
    assert page["bleu"]["score"] == found["val/bleu"]
    assert "tok:13a" in page["bleu"]["signature"] and "case:mixed" in page["bleu"]["signature"]
    assert page["chrf++"]["score"] == found["val/chrf"] and "nw:2" in page["chrf++"]["signature"]


def test_more_sources_than_there_are_is_all_of_them(subject, tmp_path):
    found = run(subject, tmp_path, num=10**6, length=2)
    assert found["val/n"] == subject.task.data.splits["val"]["rows"] == len(table(tmp_path)) - 1


def test_a_net_that_ends_at_once_scores_zero_and_no_nan(subject, tmp_path, monkeypatch):
    stand_in(monkeypatch, lambda sources: [""] * len(sources))
    found = run(subject, tmp_path)
    assert found["val/bleu"] == found["val/chrf"] == found["val/length_ratio"] == 0
    assert found["val/repetition"] is None and found["val/distinct_2"] is None


def translate(subject, sources, length):
    return translating.translate(
        subject.model,
        subject.task.tokenizer,
        sources,
        subject.strategy,
        length,
        make_layer=subject.make_cache,
        seed=subject.seed,
    )


def alone(subject, source, length):
    """The most likely token, one after the other, of one source without pads."""
    ids, source = [BOS], torch.tensor([subject.task.tokenizer.encode(source).tolist()])
    for _step in range(length):
        logits = subject.model(torch.tensor([ids]), source=source)[0, -1]
        logits[[i for i in range(5) if i != EOS]] = -math.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == EOS:
            break
    return subject.task.tokenizer.decode(ids)


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_a_source_is_translated_as_it_would_be_alone(subject, monkeypatch, at_once):
    """In the order of the sources, whatever else is in the batch."""
    monkeypatch.setattr(translating, "AT_ONCE", at_once)
    sources = [source for source, _ in subject.task.sentences("val", 12)]
    subject = replace(subject, model=copy.deepcopy(subject.model))
    subject.model.head.weight[EOS] *= 1.5  # some end early
    found = translate(subject, sources, 8)
    assert found == [alone(subject, source, 8) for source in sources]
    assert len(set(found)) > 1
    assert translate(subject, ["", sources[0], ""], 8) == ["", found[0], ""]


def test_the_same_seed_draws_the_same_translations(subject, monkeypatch):
    drawn = replace(subject, strategy=component("decoding", "temperature"))
    sources = [source for source, _ in subject.task.sentences("val", 12)]
    first, again = (translate(drawn, sources, 6) for _ in range(2))
    monkeypatch.setattr(translating, "AT_ONCE", 5)
    assert first == again == translate(drawn, sources, 6)
    assert translate(replace(drawn, seed=8), sources, 6) != first


@torch.no_grad()
def test_an_alignment_has_the_attention_with_which_each_token_was_chosen(subject):
    """By hand: the weights of the last layer's cross-attention at the token before."""
    (source, _references), *_ = subject.task.sentences("val", 1)
    reading = {"make_layer": subject.make_cache, "seed": subject.seed}
    tokenizer, how = subject.task.tokenizer, (source, subject.strategy, 6)
    found = translating.alignment(subject.model, tokenizer, *how, **reading)
    ids = tokenizer.encode(source).tolist()
    assert found.source == [tokenizer.decode([i]) for i in ids]
    assert "".join(found.written) == translate(subject, [source], 6)[0]
    net, written = copy.deepcopy(subject.model), []
    net.use_kernel(lambda: component("attention", "manual"))
    kernel = net.decoder.blocks[-1].cross_attention.kernel
    kernel.weights.register_forward_hook(lambda module, args, out: written.append(out))
    prompt = torch.full((1, 1), BOS)
    out = translating.generate(
        subject.model, prompt, subject.strategy, 6, eos=EOS, source=torch.tensor([ids]), **reading
    )
    net(out[:, :-1], source=torch.tensor([ids]))
    torch.testing.assert_close(found.weights, written[-1].mean(1)[0], rtol=0, atol=1e-6)
    svg, png = rendered(alignment_map(found.source, found.written, found.weights.tolist()))
    assert svg.startswith(b"<?xml") and png.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="source: has no tokens; give a sentence"):
        translating.alignment(subject.model, tokenizer, "", *how[1:], **reading)
