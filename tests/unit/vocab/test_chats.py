"""Conversations in the teacher's own template: only what the assistant says is compared."""

import pytest
import torch

from potstill.functional.tokens import next_tokens
from potstill.protocols import Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.teachers import CrossTokenizer
from potstill.vocab import ChatInterpreter, Vocabulary, turn_ends
from potstill.vocab.templates import rendered

from .tiny import byte_level, encode, sentencepiece

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
TALK = [
    {"role": "user", "content": "What is the still made of?"},
    {"role": "assistant", "content": "The still is made of copper."},
    {"role": "user", "content": "Größe?"},
    {"role": "assistant", "content": "A second naïve distillation — 日本!"},
]


def student():
    made = byte_level(330, extra=("<|im_start|>", "<|im_end|>"))
    made.chat_template = CHATML
    return made


def teacher():
    made = sentencepiece()
    made.chat_template = LLAMA
    return made


def told(messages, *, answers=(1, 3), tokenizer=None):
    """The student's tokens of a conversation, and which are asked: contents and their ends."""
    tokenizer = tokenizer or student()
    ids, wanted = [], []
    for number, message in enumerate(messages):
        head = f"<|im_start|>{message['role']}\n"
        for text, asks in ((head, False), (f"{message['content']}<|im_end|>", True), ("\n", False)):
            part = encode(tokenizer)(text)
            ids += part
            wanted += [asks and number in answers] * len(part)
    return ids, wanted


def interpreter() -> ChatInterpreter:
    return ChatInterpreter(Vocabulary.of(student()), Vocabulary.of(teacher()), teacher())


def text_of(tokenizer, ids) -> bytes:
    pieces = Vocabulary.of(tokenizer).pieces
    return b"".join(pieces[number] or b"" for number in ids)


def test_the_teacher_reads_its_own_rendering_with_its_own_beginning() -> None:
    found = interpreter().retell(*told(TALK), TALK)

    assert found.ids[0] == teacher().bos_token_id
    assert found.ids.count(teacher().bos_token_id) == 1
    text = text_of(teacher(), found.ids).replace(b" ", b"")
    plain = rendered(teacher(), TALK).replace("<s>", "").replace("</s>", "").replace(" ", "")
    assert text == plain.encode()


def test_answers_are_covered_by_spans_of_equal_bytes_and_nothing_else_is() -> None:
    ids, wanted = told(TALK)

    found = interpreter().retell(ids, wanted, TALK)

    mine = [text_of(student(), ids[a:b]).strip() for (a, b), _ in found.spans]
    theirs = [text_of(teacher(), found.ids[c:d]).strip() for _, (c, d) in found.spans]
    assert mine == theirs
    said = "".join(TALK[number]["content"] for number in (1, 3))
    assert b"".join(mine).replace(b" ", b"") == said.replace(" ", "").encode()
    assert all(all(wanted[a:b]) for (a, b), _ in found.spans)
    assert all(all(found.wanted[c:d]) for _, (c, d) in found.spans)
    assert sum(found.wanted) == sum(d - c for _, (c, d) in found.spans)


def test_the_marks_that_end_an_answer_are_partners() -> None:
    ids, wanted = told(TALK)
    end, their_end = student().convert_tokens_to_ids("<|im_end|>"), teacher().eos_token_id

    found = interpreter().retell(ids, wanted, TALK)

    ends = [(a, c) for (a, _), (c, _) in found.spans if ids[a] == end]
    assert len(ends) == 2
    assert all(found.ids[c] == their_end for _, c in ends)
    assert turn_ends(student(), teacher()) == {"<|im_end|>": "</s>"}


def test_equal_templates_compare_token_with_token() -> None:
    same = Vocabulary.of(student())
    ids, wanted = told(TALK)

    found = ChatInterpreter(same, same, student()).retell(ids, wanted, TALK)

    assert list(found.ids) == ids[:-1]  # less the line break behind the last answer
    pairs = [span for span in found.spans if span.student == span.teacher]
    assert len(pairs) == len(found.spans) == sum(wanted)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("The still is made of", b"The still is made of"),  # cut by the longest row
        ("Nobody knows.", b"Nobody knows."),  # words of the student's own
    ],
)
def test_answers_are_those_of_the_students_tokens(said: str, expected: bytes) -> None:
    own = [TALK[0], {"role": "assistant", "content": said}]
    ids, wanted = told(own, answers=(1,))

    found = interpreter().retell(ids, wanted, TALK[:2])

    kept = [number for number, asks in zip(found.ids, found.wanted, strict=True) if asks]
    assert text_of(teacher(), kept).strip() == expected


def test_what_the_teachers_template_cannot_write_is_left_to_plain_retelling() -> None:
    talk = [{"role": "system", "content": "Be brief."}, *TALK[:2]]
    ids, wanted = told(talk, answers=(2,))

    assert interpreter().retell(ids, wanted, talk) is None


class Seen(Teacher):
    """Answers zeros and remembers what it was asked."""

    def offers(self) -> Offers:
        return Offers()

    def fingerprint(self) -> str:
        return "seen"

    def signals(self, batch: Batch, *, layers=()) -> Signals:
        self.ids = batch.inputs[:, 0]
        rows = int((batch.labels != -100).sum())
        return Signals(logits=Logits(torch.zeros(rows, Vocabulary.of(teacher()).size)))


def test_a_teacher_with_another_tokenizer_is_asked_in_its_template() -> None:
    seen, (ids, wanted) = Seen(), told(TALK)
    made = CrossTokenizer(
        seen,
        student_vocabulary=Vocabulary.of(student()),
        teacher_vocabulary=Vocabulary.of(teacher()),
        encode=encode(teacher()),
        markers=turn_ends(student(), teacher()),
        tokenizer=teacher(),
        conversations={7: TALK},
    )
    planes = torch.tensor([[ids, [1] * len(ids)]] * 2)
    labels = next_tokens(planes[:, 0], planes[:, 1], torch.tensor([wanted] * 2))

    answer = made.signals(Batch(inputs=planes, labels=labels, ids=torch.tensor([7, 8]))).logits

    expected = interpreter().retell(ids, wanted, TALK).ids
    assert seen.ids[0, : len(expected)].tolist() == list(expected)
    assert b"[INST]" in text_of(teacher(), seen.ids[0].tolist())
    assert b"[INST]" not in text_of(teacher(), seen.ids[1].tolist())  # no conversation is known
    assert answer.num_rows == sum(wanted) * 2
    assert set(answer.spans.student_rows_SA[:, 0].tolist()) <= set(range(answer.num_rows))
