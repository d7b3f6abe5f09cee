"""The backend without a language model: a deterministic grammar over lists of sound sources, actions and places."""

from __future__ import annotations

import re
from typing import ClassVar

from ...core.types import Captions
from ..anchors import SemanticAnchors
from ..english.data import load_lexicon
from ..lexicon.anchoring import build_anchors
from ..lexicon.audio import write_audio
from ..lexicon.choice import Chooser
from ..lexicon.direct import write_directly
from ..lexicon.grammar import Parser
from ..lexicon.times import without_times
from ..lexicon.tokens import brief, normalise, tokenise
from ..lexicon.video import write_video
from ..profiles import LengthProfile
from . import BACKENDS
from .base import BackendOptions, Checked

MOST_NAMED_UNKNOWN = 12


@BACKENDS.register("lexicon")
class LexiconBackend:
    """Anchors and captions by rules. The same prompt always gives the same captions; unknown words are named."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    SUMMARY: ClassVar[str] = "rules, no model, English only"
    name = "lexicon"

    def __init__(self, options: BackendOptions | None = None) -> None:
        self.options = options or BackendOptions()

    def check(self, prompt: str) -> Checked:
        """Anchors for an English prompt.

        Args:
            prompt: Any text; instructions in it are read as plain words.

        Raises:
            InputError: no word in it, or too few English words that are known.
        """
        lexicon = load_lexicon()
        text, times = without_times(normalise(prompt))
        tokens, unknown = tokenise(text, lexicon)
        parsed = Parser(tokens, lexicon).parse()
        chooser = Chooser(re.sub(r"\s+", " ", normalise(prompt)).strip().casefold())
        anchors, notes = build_anchors(parsed, lexicon, chooser)
        if times:
            named = ", ".join(brief(time) for time in dict.fromkeys(times[:MOST_NAMED_UNKNOWN]))
            notes.append(f"Times and measures are not read ({named}): what happens keeps its order.")
        if unknown:
            named = ", ".join(brief(word) for word in unknown[:MOST_NAMED_UNKNOWN])
            more = f" and {len(unknown) - MOST_NAMED_UNKNOWN} more" if len(unknown) > MOST_NAMED_UNKNOWN else ""
            notes.append(f"Not in the lexicon, so left out: {named}{more}.")
        return Checked(anchors, tuple(notes), tuple(unknown))

    def rewrite(self, anchors: SemanticAnchors, profile: LengthProfile) -> Captions:
        """Both captions from anchors, within the profile's lengths.

        Raises:
            InputError: the anchors hold nothing for one of the captions in Latin script.
        """
        lexicon = load_lexicon()
        grounded = anchors.for_rewriter()
        return Captions(
            video=write_video(grounded, profile.video, lexicon), audio=write_audio(grounded, profile.audio, lexicon)
        )

    def rewrite_directly(self, prompt: str, profile: LengthProfile) -> Captions:
        """Both captions from the prompt's own words, without anchors (an ablation).

        Raises:
            InputError: as for :meth:`check`.
        """
        tokenise(prompt, load_lexicon())
        return write_directly(prompt, profile)
