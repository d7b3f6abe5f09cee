"""Training tasks: what is trained on what, one file a task; ``base.py`` says what a task decides."""

from __future__ import annotations

from typing import Any

from ...core.registry import Registry

# Classes of base.TrainingTask, which a configuration must not need: it names one of these keys.
TRAINING_TASKS: Registry[Any] = Registry("training task", __name__)
