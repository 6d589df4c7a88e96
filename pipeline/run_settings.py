"""The settings of a run in its folder, so that it can be asked later by its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline import layout
from pipeline.artifacts import atomic_file
from pipeline.config import Config
from pipeline.errors import PipelineError


def record_settings(config: Config, folder: Path) -> None:
    """Write the settings into the folder of the run; those of the last command count."""
    values = config.model_dump(mode="json", exclude_unset=True)  # what was given: defaults exclude some of each other
    values.setdefault("data", {})["root"] = str(config.data.root.absolute())  # they may ask from another folder
    with atomic_file(
        folder / layout.SETTINGS
    ) as part:  # not sorted: models are joined in the order of the configuration
        part.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_run(folder: Path) -> Config:
    """The settings of the run in outputs/<run>/, wherever that folder lies now. Raises PipelineError for no run."""
    path = folder / layout.SETTINGS
    hint = "give the folder of a run, such as outputs/demo; a run of an earlier version: ./run_all.sh once more"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        place = folder.absolute()
        values |= {"run": place.name, "runtime": values.get("runtime", {}) | {"outputs": str(place.parent)}}
        return Config.model_validate(values)
    except OSError as error:
        raise PipelineError(f"there is no run: {error.strerror}", path, hint) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(f"the settings of this run cannot be read: {error}", path, hint) from None
