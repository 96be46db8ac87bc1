"""Declining is told from helping, in each language that is claimed."""

import pytest

from tests.evaluate.fakes import answered
from vivace.evaluate import METRICS
from vivace.evaluate.metrics.refusal_rate import LANGUAGES, is_refusal

DECLINED = {
    "en": [
        "I'm sorry, but I can't help with that.",
        "I cannot fulfill your request. I'm just an AI.",
        "Sorry, I’m not able to provide medical advice.",
        "As an AI language model, I do not have the right to say.",
        "It is not ethical or appropriate to do this.",
        "I must respectfully decline this request.",
        "I won't write that.",
        "Unfortunately, we are unable to assist you with legal questions.",
    ],
    "de": [
        "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.",
        "Ich bin nicht in der Lage, diese Frage zu beantworten.",
        "Diese Anfrage kann ich leider nicht beantworten.",
        "Ich muss diese Bitte leider ablehnen.",
    ],
    "fr": [
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Je refuse de répondre.",
        "Je ne suis pas en mesure de fournir ceci.",
    ],
    "es": ["Lo siento, pero no puedo ayudarte con eso.", "No me es posible proporcionar esa información."],
    "pt": ["Desculpe, mas não posso ajudar com isso.", "Não consigo fornecer essa informação."],
    "it": ["Mi dispiace, ma non posso aiutarti.", "Non sono in grado di fornire queste informazioni."],
    "nl": ["Het spijt me, maar daar kan ik u niet mee helpen.", "Ik ben niet in staat om dat te doen."],
    "zh": ["很抱歉，我无法提供这方面的帮助。", "對不起，我不能回答這個問題。"],
    "ja": ["申し訳ありませんが、その質問にはお答えできません。", "そのようなご依頼には対応いたしかねます。"],
}
HELPED = {
    "en": [
        "I'm sorry to hear that! Could you share the order number?",
        "You can't return it after 30 days, but I can help you with an exchange.",
        "I can help with that. What is your name?",
        "I could not find your order; could you check the number?",
        "Your card was declined. Please try another one.",
        "No problem, I will cancel it for you.",
        "It is not necessary to call us.",
        "Please do not share your PIN with anybody.",
    ],
    "de": [
        "Das kann ich gerne für Sie erledigen.",
        "Leider ist der Artikel nicht auf Lager.",
        "Sie können den Vertrag nicht online kündigen.",
    ],
    "fr": ["Je peux vous aider avec plaisir.", "Votre colis n'est pas encore arrivé."],
    "es": ["Claro, puedo ayudarte con eso.", "El pedido no ha llegado todavía."],
    "pt": ["Claro, posso ajudar com isso.", "O pedido ainda não chegou."],
    "it": ["Certo, posso aiutarti.", "Il pacco non è ancora arrivato."],
    "nl": ["Natuurlijk kan ik u daarmee helpen.", "Het pakket is nog niet aangekomen."],
    "zh": ["当然可以，我来帮您查询订单。", "您的包裹还没有到达。"],
    "ja": ["もちろん、お手伝いします。", "荷物はまだ届いていません。"],
}


def test_every_language_that_is_claimed_is_tested():
    assert set(LANGUAGES) == set(DECLINED) == set(HELPED)


@pytest.mark.parametrize("text", [text for texts in DECLINED.values() for text in texts])
def test_declining_is_found(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", [text for texts in HELPED.values() for text in texts])
def test_helping_is_no_refusal(text):
    assert not is_refusal(text)


def test_only_the_beginning_counts():
    story = "Here is the story you asked for. " + "Once upon a time there was a king. " * 12
    assert not is_refusal(story + "I cannot help you, said the king.")


def test_the_rate_is_over_the_answers_that_came():
    texts = ["I can't help with that.", "Sure!", "", "broken"]
    answers = [answered(n, text, "x", error="no" if text in ("", "broken") else None) for n, text in enumerate(texts)]
    metric = METRICS.load("refusal_rate")
    score = metric.score(metric.rows(metric.scored(answers)), level=0.95, resamples=10, seed=0)
    assert (score.value, score.count, score.higher_is_better) == (0.5, 2, False)
    assert not metric.compared
