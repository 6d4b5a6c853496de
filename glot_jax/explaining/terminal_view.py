"""An explanation for a terminal: the text with coloured tokens, and a table of the strongest."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from glot_jax.explaining.explanation import SCOPE, Effect, Explanation, TextExplanation, Word

_FOR = (200, 90, 0)
_AGAINST = (0, 95, 185)


def print_explanations(
    explanations: Sequence[Explanation], console: Console | None = None, *, top: int = 5
) -> None:
    """Print explanations, one after the other.

    Args:
        explanations: of some rows.
        console: where to. Default: stdout, without colours where it is no terminal.
        top: tokens in the table of each text.
    """
    # Neither markup nor emoji codes: a text may hold both.
    console = console or Console(markup=False, emoji=False, highlight=False)
    for explanation in explanations:
        console.print(Text(_answer(explanation)))
        for text in explanation.texts:
            _print_text(console, explanation, text, top)
    console.print(Text(SCOPE))


def _answer(explanation: Explanation) -> str:
    if explanation.probabilities is None:
        return f"score {explanation.prediction:.4g}"
    parts = [f"{printable(name)} {share:.3f}" for name, share in explanation.probabilities.items()]
    answer = f"{printable(str(explanation.prediction))}   ({', '.join(parts)})"
    if explanation.explained != explanation.prediction:
        answer += f"   explained: {printable(str(explanation.explained))}"
    return answer


def _print_text(
    console: Console, explanation: Explanation, text: TextExplanation, top: int
) -> None:
    if not text.tokens:
        console.print(Text("(a text without a token)"))
        return
    if text.words is None:
        console.print(_coloured(text.tokens, [effect.score for effect in text.effects]))
    else:
        words = [word.text for word in text.words]
        console.print(_coloured(words, [word.effect.score for word in text.words]))
        console.print(_word_table(text.words, top))
    console.print(_token_table(explanation, text, top))
    left_out = [
        text.tokens[token] for token in range(len(text.tokens)) if not text.takes_part[token]
    ]
    if left_out:
        names = ", ".join(map(printable, left_out))
        console.print(Text(f"left out before the graph: {names}"))


def _coloured(parts: Sequence[str], scores: Sequence[float]) -> Text:
    """The text: orange speaks for the score, blue against it."""
    largest = max(map(abs, scores), default=0.0)
    line = Text()
    for part, score in zip(parts, scores, strict=True):
        line.append(printable(part), _style(score / largest if largest else 0.0))
        # The tokens of a word stand apart: each has a colour of its own.
        line.append(" ")
    return line


def _style(share: float) -> Style:
    # Below a fifth of the strongest nothing is coloured: the eye shall find the few that decided.
    if abs(share) < 0.2:
        return Style()
    red, green, blue = _FOR if share > 0 else _AGAINST
    return Style(bold=abs(share) > 0.6, color="white", bgcolor=f"rgb({red},{green},{blue})")


def _token_table(explanation: Explanation, text: TextExplanation, top: int) -> Table:
    table = _table(explanation.explained, "token")
    table.add_column("weight", justify="right")
    table.add_column("links", justify="right")
    table.add_column("strongest neighbours")
    # Counted over all pairs: once for the table, not once a row.
    degrees = text.degrees
    for token in text.strongest(top):
        neighbours = []
        for neighbour in text.neighbours(token, 3):
            name = printable(text.tokens[neighbour.position])
            neighbours.append(f"{name} {neighbour.cosine:.2f}")
        table.add_row(
            Text(printable(text.tokens[token])),
            *_effect_cells(text.effects[token]),
            Text(f"{text.weights[token]:.3f}"),
            Text(str(degrees[token])),
            Text(", ".join(neighbours)),
        )
    return table


def _word_table(words: Sequence[Word], top: int) -> Table:
    table = _table("", "word")
    strongest = sorted(words, key=lambda word: -word.effect.score)
    for word in strongest[:top]:
        table.add_row(Text(printable(word.text)), *_effect_cells(word.effect))
    return table


def _table(explained: str | None, noun: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(noun)
    if explained is None:
        table.add_column("score", justify="right")
        table.add_column("", justify="right")
        return table
    table.add_column("probability", justify="right")
    table.add_column("log-odds", justify="right")
    return table


def _effect_cells(effect: Effect) -> tuple[Text, Text]:
    if effect.probability is None:
        return Text(f"{effect.score:+.3f}"), Text("")
    return Text(f"{effect.probability:+.3f}"), Text(f"{effect.score:+.2f}")


def printable(text: str) -> str:
    r"""A text without characters that move the cursor or colour the terminal: those as `\x1b`."""
    characters = []
    for character in text:
        if character.isprintable():
            characters.append(character)
        else:
            characters.append(repr(character)[1:-1])
    return "".join(characters).strip() or "·"
