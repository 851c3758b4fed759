"""Readers of the corpora: what is kept of a source, and what is counted as dropped."""

import zipfile

from micro_transformer.data.archives import zip_member
from micro_transformer.data.corpora import review_sources, reviews, shakespeare, tatoeba
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.data.text import Report


def test_a_play_is_rendered_in_the_format_of_tinyshakespeare():
    markdown = (
        "# Hamlet\n\n## ACT I\n\n_Enter two\nguards_\n\n**BERNARDO**  \nWho's there?  \n"
        "Speak!  \n\n_Noise_\n\n"
        "Stand!\n\n**FRANCISCO**  \n_\\[Aside]_  \nNay, answer me:  \n\n_Exeunt\n"
    )
    expected = "BERNARDO:\nWho's there?\nSpeak!\nStand!\n\nFRANCISCO:\nNay, answer me:\n\n"
    assert shakespeare.render(markdown) == expected


def test_who_speaks_is_no_part_of_a_sentence():
    speech, paragraph, cut = "ROMEO:\nHo! What, ho?\n\n", "y luego exclamó:\n", "?\nAy, so.\n\n"
    plays, novel = corpus("shakespeare", {}), corpus("regenta", {})
    assert plays.sentences(speech) == novel.sentences(speech) == ["ho", "whatho"]
    assert plays.sentences("ROMEO:\n\n") == [] and plays.sentences(cut) == ["ayso"]
    assert novel.sentences(paragraph) == ["yluegoexclamó"]


def test_pairs_keep_case_and_all_references():
    pairs = [(f"Word {i} x", f"Palabra {i} y") for i in range(400)]
    pairs += [
        ("Word 1 x", "Otra 1 z"),
        ("word 1 x!", "OTRA dos"),
        ("", "nada"),
        ("Word 2 x", "Palabra 2 y."),
    ]
    report = Report()
    splits = tatoeba.Tatoeba().rows(pairs, report)
    assert report.counts == {"a side without words, dropped": 1, "repeated pair, dropped": 1}
    shown = {
        s: dict(zip(rows.texts["source"], rows.entries["references"], strict=True))
        for s, rows in splits.items()
        if s != "train"
    }
    everything = {**shown["val"], **shown["test"]}
    if "Word 1 x" in everything:
        assert everything["Word 1 x"] == ["Palabra 1 y", "Otra 1 z", "OTRA dos"]
    else:
        assert splits["train"].texts["source"].count("Word 1 x") == 2
    assert all(text[0] == "W" for text in everything)


def test_pairs_are_shuffled_before_they_are_sliced():
    """The file is sorted by length: a slice from its head would be exclamations."""
    pairs = [(f"{'long ' * (i // 300)}word {i}", f"palabra {i}") for i in range(30_000)]
    splits = tatoeba.Tatoeba(pairs=20_000).rows(pairs, Report())
    means = {s: sum(map(len, r.texts["source"])) / len(r) for s, r in splits.items()}
    overall = sum(len(en) for en, _ in pairs) / len(pairs)
    assert all(abs(mean - overall) < 0.1 * overall for mean in means.values())
    assert {s: len(r) for s, r in splits.items()} == {"train": 18_000, "val": 1_000, "test": 1_000}


def test_lines_without_two_columns_are_counted():
    report = Report()
    assert tatoeba.parse_tsv("a\tb\tc\nalone\n\nd\te", report) == [("a", "b"), ("d", "e")]
    assert report.counts == {"fewer than two columns, dropped": 1}


def test_home_assistant_texts_are_joined_by_key(tmp_path):
    wheel = tmp_path / "home.whl"
    english = '{"a": {"x": "Turn on", "y": "One"}, "b": "See {url} now", "c": "Only english here"}'
    spanish = '{"a": {"x": "Encender", "y": "Uno"}, "b": "Ver {url} ya"}'
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("homeassistant/components/lamp/translations/en.json", english)
        archive.writestr("homeassistant/components/lamp/translations/es.json", spanish)
        archive.writestr("homeassistant/components/lamp/translations/de.json", "{}")
    report = Report()
    assert tatoeba.read_home_assistant([wheel], report) == [("Turn on", "Encender")]
    assert list(report.counts.values()) == [2]


def test_sentiment_rows_without_label_are_counted():
    report = Report()
    rows = list(
        review_sources.parse_tsv(
            "sentence\tlabel\ngood film \t1\nno label\n\t0\nbad\t7\nbad \t0", report
        )
    )
    assert rows == [("good film", 1), ("bad", 0)]
    assert report.as_dict() == {"no sentence or label, dropped": {"count": 3, "lines": [3, 4, 5]}}


def test_a_phrase_of_an_evaluation_sentence_is_no_training_row():
    evaluated = [("the film is a small wonder .", 1)]
    items = [("a small wonder", 1), ("wonder", 1), ("A SMALL , wonder", 1), ("a wonder", 1)]
    items += [("i say the film is a small wonder . really", 1)]
    kept = reviews._apart(items, evaluated, Report())
    assert [text for text, _ in kept] == ["wonder", "a wonder"]


def test_whole_sentences_are_the_longest_rows():
    rows = [
        ("is a small wonder", 1),
        ("the film is a small wonder", 1),
        ("bad", 0),
        ("one two three four", 0),
    ]
    found = [text for text, _ in review_sources._maximal(rows)]
    assert found == ["the film is a small wonder", "one two three four"]


def test_zip_members_are_read_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/a.txt", "text")
    assert zip_member(tmp_path / "a.zip", "inner/a.txt", 4) == b"text"
