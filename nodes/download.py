"""The node that fetches models, when it is told to and never otherwise."""

from __future__ import annotations

from ..core.errors import require_choice
from ..core.sizes import size_text
from ..models.weights.download import DOWNLOADS, download
from .host import io, model_roots, progress
from .listing import listing
from .sockets import CATEGORY
from .telling import told


class DownloadModels(io.ComfyNode):
    """Node T2SVDownloadModels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVDownloadModels",
            display_name="Download Models (T2SV)",
            category=f"{CATEGORY}/loaders",
            description="Fetches a model from Hugging Face into models/sounding_video, but only with download_now on. "
            "A stopped download goes on where it stopped.",
            **listing("T2SVDownloadModels"),
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "what",
                    options=list(DOWNLOADS),
                    default="wan-1.3b",
                    tooltip="What to fetch: Wan 2.1 1.3B (single files, or as a diffusers folder), Stable Audio Open, "
                    "or the published bridges.",
                ),
                io.Boolean.Input(
                    "download_now",
                    default=False,
                    tooltip="Off: only says what would be fetched, without a network. On: fetches it.",
                ),
                io.String.Input(
                    "file",
                    default="",
                    optional=True,
                    tooltip="Only this file of it; may hold * and ?. Empty fetches all that is needed.",
                ),
            ],
            outputs=[io.String.Output("report", display_name="report", tooltip="What was fetched, or would be.")],
        )

    @classmethod
    def execute(cls, what: str, download_now: bool, file: str = "") -> io.NodeOutput:
        """Fetch, or say what would be fetched."""
        folder, text = model_roots()[0], describe(what)
        if download_now:
            files = download(what, folder, file=file.strip() or None, progress=progress())
            text = "\n".join(
                [text, "fetched:", *(str(path) for path in files), "Reload the page to see them in lists."]
            )
        else:
            text += f"\nwould go to {folder}. Nothing was fetched: download_now is off."
        return io.NodeOutput(text, ui=told(text, as_text=True))


def describe(what: str) -> str:
    """What a download is, from where, how large, and under which licence.

    Raises:
        InputError: an unknown name.
    """
    require_choice("download", what, DOWNLOADS)
    entry = DOWNLOADS[what]
    gate = "; asks for a login and an accepted licence" if entry.is_gated else ""
    return f"{entry.title}\n{entry.repository}, about {size_text(entry.num_bytes)}\nlicence: {entry.licence}{gate}"
