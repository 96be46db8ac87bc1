"""What needs no fine-tuning: the commonest intent, and simple classifiers on the frozen encoder."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.config.intent import IntentSettings
from vivace.domain import Model, Progress
from vivace.models.encoders.tokens import EncoderTokenizer
from vivace.train.encoders.opening import open_frozen
from vivace.train.intents.labels import OUT, Intents

BATCH_SIZE = 64


def simple_guesses(
    encoder: Model, intents: Intents, settings: IntentSettings, on: str, progress: Progress
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Return the guesses on the test messages and their confidence, by the baseline's name.

    Texts are the mean of the frozen encoder's last hidden states, of unit length; `logistic_regression` is
    scikit-learn's with balanced classes where the settings balance them, `nearest_centroid` the intent with the most
    similar mean.
    """
    from sklearn.linear_model import LogisticRegression

    train, test = intents.splits["train"], intents.splits["test"]
    places = [place for place, label in enumerate(train.labels) if label != OUT]
    labels = np.array(train.labels)[places]
    vectors = embed(encoder, [*(train.texts[place] for place in places), *test.texts], settings, on, progress)
    learned, asked = vectors[: len(places)], vectors[len(places) :]
    counts = np.bincount(labels, minlength=len(intents.names))
    centroids = np.stack([learned[labels == number].mean(axis=0) for number in range(len(intents.names))])
    similar = asked @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
    with progress.task("Fitting the baselines"):
        weight = "balanced" if settings.class_weights == "balanced" else None
        # Vectors have unit length, so that less shrinking than scikit-learn's default is wanted.
        regression = LogisticRegression(C=10.0, class_weight=weight, max_iter=1000).fit(learned, labels)
        shares = regression.predict_proba(asked)
    return {
        "majority": (np.full(len(test), int(counts.argmax())), np.full(len(test), float(counts.max() / counts.sum()))),
        "nearest_centroid": (similar.argmax(axis=1), similar.max(axis=1).astype(np.float64)),
        "logistic_regression": (regression.classes_[shares.argmax(axis=1)], shares.max(axis=1)),
    }


def embed(
    encoder: Model, texts: list[str], settings: IntentSettings, on: str, progress: Progress
) -> NDArray[np.float32]:
    """Return a vector of unit length for each text, from the encoder as it came."""
    import torch

    model = open_frozen(encoder, on)
    tokenizer = EncoderTokenizer(encoder.path, settings.max_length)
    rows = tokenizer.texts(texts)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    found: Any = None
    with torch.no_grad(), progress.task("Embedding messages for the baselines", total=len(rows)) as task:
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            padded = tokenizer.pad([rows[place] for place in batch])
            inputs = {name: torch.from_numpy(values).to(on) for name, values in padded.items()}
            hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            unit = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
            found = np.zeros((len(rows), unit.shape[1]), np.float32) if found is None else found
            found[batch] = unit
            task.advance(len(batch))
    vectors: NDArray[np.float32] = found
    return vectors
