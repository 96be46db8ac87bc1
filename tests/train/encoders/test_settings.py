"""Encoders have tables of their own, which change nothing that the chatbot is trained with."""

from vivace.config.train import TrainSettings


def test_the_chatbots_training_does_not_depend_on_the_encoders_settings() -> None:
    changed = TrainSettings(intent={"seed": 1, "encoder": "a/b"}, reward={"min_raters": 3})
    assert changed.intent.seed == 1
    assert changed.reward.min_raters == 3
    assert changed.model_dump(mode="json") == TrainSettings().model_dump(mode="json")
    assert TrainSettings(seed=1).model_dump(mode="json") != TrainSettings().model_dump(mode="json")
