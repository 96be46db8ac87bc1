"""A GGUF file as an engine opens it: a folder with the file and the tokenizer that is read out of it."""

import json
import shutil
from pathlib import Path
from typing import Any

from msgspec import structs

from vivace.domain import Model, Workspace
from vivace.loop.project import Project
from vivace.models import identify
from vivace.store.files import write_atomic


def opened_gguf(project: Project, path: Path) -> Model:
    """Return the model in a GGUF file or in a folder of one, its weights as they are."""
    model = identify(path)
    if not model.path.is_file():
        return model
    source = model.path

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.models.gguf_file import read_header
        from vivace.models.gguf_tokenizer import write_tokenizer

        header = read_header(source)
        write_tokenizer(header, workspace.out, source)
        ends = {header.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")} - {None}
        config: dict[str, Any] = {
            "model_type": header.architecture,
            "eos_token_id": sorted(int(str(each)) for each in ends),
        }
        config |= {"max_position_embeddings": int(header.setting("context_length") or 0)}
        write_atomic(workspace.out / "config.json", json.dumps(config, indent=2) + "\n")
        shutil.copyfile(source, workspace.out / "model.gguf")
        return {"source": source.name}

    digest = project.digest(source)
    settings: dict[str, Any] = {"wraps": "gguf"}
    made = project.store.run(
        "wrap", work, kind="model", settings=settings, parents={"file": digest}, progress=project.progress
    ).artifact
    return structs.replace(model, path=made.path, artifact_id=made.id)
