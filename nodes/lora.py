"""The node that lays a LoRA beside the layers of a joint model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .host import io
from .host.folders import list_loras, resolve_lora
from .listing import listing
from .sockets import CATEGORY, JointModel
from .telling import told

if TYPE_CHECKING:
    from ..pipeline import FamilyModel

NO_LORA = "none"
PARTS = ("from file", "video", "audio", "bridge")


class LoadLora(io.ComfyNode):
    """Node T2SVLoadLora."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVLoadLora",
            display_name="Load LoRA (T2SV)",
            category=f"{CATEGORY}/loaders",
            description="Lays a LoRA for Wan 2.1, for Stable Audio or for the bridges beside the model's layers. "
            "Chain several in any order.",
            **listing("T2SVLoadLora"),
            inputs=[
                JointModel.Input("model", tooltip="From Join Towers or another Load LoRA."),
                io.Combo.Input(
                    "lora_file",
                    options=[NO_LORA, *list_loras()],
                    default=NO_LORA,
                    tooltip="none, or a file in models/loras: LoRA, DoRA, LoHa or LoKr, in the layouts of diffusers, "
                    "peft, ComfyUI's trainers and kohya.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.01,
                    tooltip="Factor of the change. 0 changes nothing, negative turns it round.",
                ),
                io.Combo.Input(
                    "part",
                    options=list(PARTS),
                    default=PARTS[0],
                    optional=True,
                    tooltip="Which part it is for. The file's own names tell; choose one to have other files refused.",
                ),
            ],
            outputs=[
                JointModel.Output("model_out", display_name="model", tooltip="The model with the LoRA beside it."),
                io.String.Output("report", display_name="report", tooltip="What was changed, and what was not used."),
            ],
        )

    @classmethod
    def execute(cls, model: FamilyModel, lora_file: str, strength: float, part: str = PARTS[0]) -> io.NodeOutput:
        """Read the file and match it with the model."""
        from ..models.lora.files import read_lora
        from ..pipeline import add_lora

        if lora_file == NO_LORA:
            return io.NodeOutput(model, "no LoRA chosen", ui=told("no LoRA chosen"))
        lora = read_lora(resolve_lora(lora_file))
        changed = add_lora(model, lora, strength, part=None if part == PARTS[0] else part)
        report = changed.loras[-1].summary()
        return io.NodeOutput(changed, report, ui=told(report))
