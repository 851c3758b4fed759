"""How varied generated texts are, without references: self-BLEU, distinct and repeated n-grams."""

from collections import Counter
from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.helpers import extract_all_word_ngrams
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

ORDER = 4  # longest n-gram


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text against all others (Texygen, Zhu et al., 2018), 0 to 1; less is more
    varied. None for fewer than two texts.

    n-grams up to 4, shorter in texts without longer ones; orders without a match are smoothed as
    in sacreBLEU (exp). The best count of each n-gram among all texts and the second best are
    enough to know that among the others.
    """
    if len(texts) < 2:
        return None
    cut = Tokenizer13a()
    found = [extract_all_word_ngrams(cut(text), 1, ORDER) for text in texts]
    best: dict[tuple[str, ...], tuple[int, int, int]] = {}  # count, whose, second count
    for number, (ngrams, _length) in enumerate(found):
        for ngram, count in ngrams.items():
            most, whose, second = best.get(ngram, (0, -1, 0))
            best[ngram] = (
                (count, number, most) if count > most else (most, whose, max(second, count))
            )
    lengths = Counter(length for _, length in found)
    return sum(
        _against_others(number, ngrams, length, best, lengths)
        for number, (ngrams, length) in enumerate(found)
    ) / len(texts)


def distinct(texts: Sequence[str], size: int) -> float | None:
    """Distinct n-grams of `size` words over all n-grams of all texts (Li et al., 2016); None
    without any."""
    runs = [run for text in texts for run in _runs(text, size)]
    return len(set(runs)) / len(runs) if runs else None


def repetition(texts: Sequence[str], size: int = ORDER) -> float | None:
    """Share of the n-grams of `size` words that were already said in the same text; None if no
    text is that long."""
    runs = [_runs(text, size) for text in texts]
    num = sum(map(len, runs))
    return 1 - sum(len(set(run)) for run in runs) / num if num else None


def _runs(text: str, size: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def _against_others(
    number: int,
    ngrams: Counter[tuple[str, ...]],
    length: int,
    best: dict[tuple[str, ...], tuple[int, int, int]],
    lengths: Counter[int],
) -> float:
    """BLEU of one text, 0 to 1; its reference length is the nearest of another text."""
    correct, total = [0] * ORDER, [0] * ORDER
    for ngram, count in ngrams.items():
        most, whose, second = best[ngram]
        total[len(ngram) - 1] += count
        correct[len(ngram) - 1] += min(count, second if whose == number else most)
    others = [n for n, times in lengths.items() if n != length or times > 1]
    nearest = min(others, key=lambda n: (abs(n - length), n))
    found = BLEU.compute_bleu(
        correct, total, length, nearest, smooth_method="exp", effective_order=True
    )
    return found.score / 100
